"""Classifiers of feature rows that are solved, not trained: ridge, logistic, nearest neighbours."""
