"""The weights of `ItemEmbedder.pretrained("small")`, in the folder `model`; there is no code here."""
