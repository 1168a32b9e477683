"""What people ask of a grid on paper: schedules, costs, simulations, and the measurement beside them."""
