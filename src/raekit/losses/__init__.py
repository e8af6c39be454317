"""Losses between pictures: mathematics with closed-form tests, no training procedure."""
