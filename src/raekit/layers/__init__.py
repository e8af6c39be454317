"""The parts every transformer here is made of: attention, embeddings, feed-forward layers and norms.

In: tokens ``[B, N, D]``. Out: tokens of the same shape. Nothing in this folder knows of images, noise or prompts, so
the decoder and the backbones share it. Formulas follow the published RAE models (RAE paper, appendix D); the tests
compare them with golden values.
"""
