"""Pictures with captions, from disk or made on the fly, to batches that any number of GPUs read alike.

A *source* is one data set, read by index. A :class:`~raekit.data.mixture.Mixture` interleaves several by weight, a
:class:`~raekit.data.dataset.Dataset` turns them into square uint8 pictures with one caption each, and a
:class:`~raekit.data.loader.Loader` cuts the endless sequence of positions into batches. Everything is a pure function
of (seed, position), so the whole state of the data is one integer.
"""

from raekit.registry import Registry

DATASETS = Registry(
    "datasets",
    {
        "shards": "raekit.data.shards:Shards",
        "streamed_shards": "raekit.data.streamed_shards:StreamedShards",
        "folder": "raekit.data.folder:Folder",
        "jsonl": "raekit.data.jsonl:Jsonl",
        "huggingface": "raekit.data.huggingface:HuggingFace",
        "huggingface_stream": "raekit.data.huggingface_stream:HuggingFaceStream",
        "scenes": "raekit.data.scenes:Scenes",
        "rendered_text": "raekit.data.rendered_text:RenderedText",
    },
)
