"""Small models that come with the package, so that everything works offline.

Each is a folder in ordinary Hugging Face layout with a model card (README.md); the
`recipes` folder holds what trained them.
"""

from pathlib import Path

EMBEDDED_MODELS = {
    name: Path(__file__).with_name(name)
    for name in ("sentiment", "facts", "induction", "backup")
}
"""Name -> folder. `sentiment` classifies English reviews (negative, positive); `facts`
is a causal language model that answers questions about short documents; `induction` and
`backup` continue repeated words by a known circuit of attention heads."""
