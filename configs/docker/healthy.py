#!/usr/bin/python3
"""`healthy URL`: ends with status 0 if URL answers 200. What a container's health check runs, without curl."""

import sys
import urllib.error
import urllib.request

WITHIN = 2.0  # seconds

try:
    urllib.request.urlopen(sys.argv[1], timeout=WITHIN)  # noqa: S310 # the URL stands in a compose file
except (OSError, urllib.error.URLError) as error:
    sys.exit(f"{sys.argv[1]}: {error}")
