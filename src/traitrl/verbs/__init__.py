"""The verbs of the command line: each file adds its parsers and does their work. Heavy imports happen inside the work."""

EXTRAS = frozenset(
    (
        *(
            "aiohttp",
            "datasketch",
            "tokenizers",
            "torch",
            "transformers",
            "trl",
            "peft",
            "datasets",
            "accelerate",
            "safetensors",
        ),
        *("inspect_ai", "inspect_evals", "numpy", "scipy", "pandas", "pyarrow", "altair", "vl_convert"),
    )
)
