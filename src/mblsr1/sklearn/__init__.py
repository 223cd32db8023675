"""MB-LSR1 in scikit-learn: a classifier and a regressor, linear or with one hidden layer."""

try:
    from mblsr1.sklearn.classifier import MBLSR1Classifier
    from mblsr1.sklearn.regressor import MBLSR1Regressor
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise ImportError("mblsr1.sklearn needs scikit-learn: pip install 'mblsr1[sklearn]'") from error

__all__ = ["MBLSR1Classifier", "MBLSR1Regressor"]
