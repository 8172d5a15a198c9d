"""Means of weights: of two ends, of several models, of the steps of one training."""

from multimodal.transfer.averaging.ema import ExponentialAverage
from multimodal.transfer.averaging.soup import Soup, greedy_soup
from multimodal.transfer.averaging.states import AveragedState, average_states
from multimodal.transfer.averaging.wise_ft import wise_ft

__all__ = ["AveragedState", "ExponentialAverage", "Soup", "average_states", "greedy_soup", "wise_ft"]
