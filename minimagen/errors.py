"""Errors that the user can put right."""


class UserError(ValueError):
    """A mistake of the user. Its text is the sentence that they see: what is wrong, and what to do."""


class TextWarning(UserWarning):
    """A prompt that the text encoder reads only in part."""
