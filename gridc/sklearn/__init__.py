"""Grids as scikit-learn estimators: in a Pipeline, in a GridSearchCV, wherever `fit` and `predict` are known.

Without a spec of your own the estimators write a page for the data: a table ``[examples, features]`` becomes a 1-Grid LSTM
along depth, sequences ``[examples, time, features]`` a 2-Grid LSTM over time and depth.  A spec of your own has one input and
one output; rows of a table are given the shape of its input.
"""

from gridc.sklearn.classifier import GridClassifier
from gridc.sklearn.regressor import GridRegressor

__all__ = ["GridClassifier", "GridRegressor"]
