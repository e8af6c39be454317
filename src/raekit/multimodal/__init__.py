"""One language model that reads prompts, sees pictures and latents, and says what to draw (Scale-RAE, section 3).

    words and pictures --chat--> one sequence of slots --embed--> LLM --> words      (cross entropy, answers)
                                                                      --> queries --connector--> condition --> DiT

In: conversations, with pictures in them. Out: answers in words, and the condition of the pictures to be drawn. A
picture that is *shown* enters as its encoder's tokens through a projector; a picture to be *drawn* is a row of learned
queries, and its true latent is nothing but the target of the diffusion loss. Where the latent space is an RAE's, the
encoder that is drawn towards is also the one that sees: the model reads what it draws without a pixel in between.

``chat`` lays sequences out, ``conditioner`` is the language model with what was added to it, ``session`` and
``writing`` let it read and write step by step, ``eye`` turns pictures and latents into tokens, ``unified`` puts all of
it beside a backbone: training losses, conditions, answers.
"""
