"""Measuring models on pictures they were not trained on: autoencoders by what they give back, decoders by what they
make of generated latents.

In: a model, pictures, and instruments (networks for distances, a reader of text). Out: a report with a column for each
model, as JSON, as a table, and as a page with sheets of pictures.
"""
