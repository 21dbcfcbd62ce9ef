"""Trainers: heads on frozen features, small networks, scikit-learn, transformers."""
