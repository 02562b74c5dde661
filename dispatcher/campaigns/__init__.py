"""Campaigns: one text, with each customer's own values in it, to a list of up to a million numbers.

`variables` and `templates` make a text of a row's values; `records` and `lists` read a list from a stream of bytes;
`states` says what may be done with a campaign; `model` has the values that pass between these, the store and HTTP;
`feeder` hands a running campaign's texts to the queue at the pace at which they leave it.
"""
