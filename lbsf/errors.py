"""The errors that a person can mend: a job prints one as one line and exits with code 2."""


class UserError(Exception):
    """Wrong usage, configuration or input. The message says what was wrong, where, and what to do."""


class ConfigurationError(UserError):
    """The configuration has an unknown key, a missing key or a refused value."""


class SchemaMismatchError(UserError):
    """A DataFrame or a table does not have the columns that its schema declares."""


class InputError(UserError):
    """A source, a table or a model that the job needs is missing, empty or unusable."""
