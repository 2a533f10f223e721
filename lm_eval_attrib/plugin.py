"""How lm_eval finds attrib-hf."""


def autoload() -> None:
    """Filled by the plugin; called by torch on import; must never raise."""
