"""Is it a minimum, does one exist near by, and which are there?"""
