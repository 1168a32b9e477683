"""What a spec means: reading YAML into it, its geometry, its parameters and the arrays that it takes."""
