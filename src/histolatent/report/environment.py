"""How pages are made: templates of this room, everything escaped, no name that is not given."""

import jinja2


def make_environment() -> jinja2.Environment:
    """Return an environment for the templates."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("histolatent.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
