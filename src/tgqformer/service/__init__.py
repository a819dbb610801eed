"""The HTTP service: a store and its model behind an API that stays up, and the web explorer."""
