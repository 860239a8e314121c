"""Make pages of the scripts in `examples/explore`: each is run when the site is built, and shown with what came out.

Cells are those of the percent format. A cell that fails stops the build. Sizes are those of `begin.py` there.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SCRIPTS = Path(__file__).parent.parent / "examples" / "explore"
#: What a page says of the model that it was made with.
SIZE = "What pages share is in `begin.py` there; " + (
    "made with GALLERY=full: the preset `demo` on 1,200 tiles."
    if os.environ.get("GALLERY") == "full"
    else "made on 180 tiles, by a model trained for 60 steps: it shows that it works, and little to see. "
    "GALLERY=full takes the preset `demo` and 1,200 tiles."
)
#: Seconds that a cell may take.
LONGEST = 1800


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each script, and its pictures."""
    from mkdocs.structure.files import File

    with TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        work = partial(run_script, folder=os.environ.get("GALLERY_FOLDER", folder))
        first, second, *others = scripts().values()
        made = [work(first), work(second)]  # they leave behind what the others share
        made += pool.map(work, others)
        for name, (page, pictures) in zip(scripts(), made, strict=True):
            files.append(File.generated(config, f"gallery/{name}.md", content=page))
            for path, data in pictures.items():
                files.append(File.generated(config, f"gallery/{path}", content=data))
    return files


def scripts() -> dict[str, Path]:
    """Return the scripts by the names of their pages."""
    return {script.stem.partition("_")[2].replace("_", "-"): script for script in sorted(SCRIPTS.glob("[0-9]*.py"))}


def run_script(script: Path, folder: str) -> tuple[str, dict[str, bytes]]:
    """Run the cells of a script; return a page in Markdown, and the pictures that it shows, by their paths.

    `folder` keeps what scripts share.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    import jupytext
    from nbclient import NotebookClient
    from nbconvert import MarkdownExporter

    notebook = jupytext.read(script)
    place = {"metadata": {"path": str(script.parent)}}
    quiet = ["--log-level=40"]
    client = NotebookClient(notebook, kernel_name="python3", timeout=LONGEST, resources=place, extra_arguments=quiet)
    # Pages are made beside each other: threads that wait for one that another page keeps waiting only cost.
    client.execute(env={"OMP_NUM_THREADS": "1", **os.environ, "GALLERY_FOLDER": folder})
    exporter = MarkdownExporter()
    text, resources = exporter.from_notebook_node(
        notebook, {"unique_key": script.stem, "output_files_dir": script.stem, "metadata": {"name": script.stem}}
    )
    note = f"*`examples/explore/{script.name}`: cells to run in Jupyter or an editor, or as a script. {SIZE}*"
    return f"{text}\n\n{note}\n", resources["outputs"]
