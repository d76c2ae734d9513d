"""Forecasts in three dimensions: scene, window, still, movie and standalone page."""
