"""gunicorn's access and error logs, without the secrets in addresses, requests and tracebacks."""

from typing import Any

from gunicorn.glogging import Logger

from accounts.masking import MaskedFormatter, MaskingFormatter


class MaskingLogger(Logger):
    """gunicorn's own logger, with the lines of every handler masked, whatever configuration the handlers come from."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in [*self.error_log.handlers, *self.access_log.handlers]:
            if not isinstance(handler.formatter, MaskingFormatter):
                handler.setFormatter(MaskedFormatter(handler.formatter))
