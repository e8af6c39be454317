"""Conversations with pictures in them: read from files, or made of captioned pictures, to be drawn or asked about.

A *conversation source* gives turns and pictures by index; what is left to chance in it (which wording of a request,
which question) comes from the position in the data stream. A mixture of them, weighted as everywhere, is one set
(``dataset.py``), cut into micro-batches by a loader that reads ahead (``loader.py``).
"""

from raekit.registry import Registry

CONVERSATIONS = Registry(
    "conversations",
    {
        "llava": "raekit.data.conversations.files:Llava",
        "conversation_shards": "raekit.data.conversations.files:ConversationShards",
        "requests": "raekit.data.conversations.requests:Requests",
        "questions": "raekit.data.conversations.questions:Questions",
    },
)
