"""OpenAI's API for models that take or give text: it reads OpenAI's bodies into inference requests, and writes the answers back."""
