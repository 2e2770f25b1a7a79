"""What `--model` names, a folder or a version in MLflow's registry, and `brainage register`."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from brainage.config import Config, parse_config
from brainage.errors import BrainageError
from brainage.files import default_cache
from brainage.inference.model import Model
from brainage.model.manifest import bundle_files, read_checked, read_manifest
from brainage.model.released import choose_model
from brainage.tracking import (
    CHAMPION,
    MODEL_NAME,
    Tracker,
    fetch_model,
    is_model_uri,
)
from brainage.types import Json
from brainage.workflows.console import say, warn

if TYPE_CHECKING:
    from brainage.model.bundle import Bundle

NOTE = "Brain age from T1 MRI. Research use only. Each version is a bundle; see its card.md."


def resolve_model(model: str | Path, tracking_uri: str | None = None) -> tuple[Path, str]:
    """Folder of a bundle, and its version in the registry (empty for a plain folder).

    Raises
    ------
    TrackingError
        If the registry cannot be reached or does not know the model.
    """
    if not is_model_uri(str(model)):
        return Path(model), ""
    fetched = fetch_model(str(model), default_cache() / "models", tracking_uri)
    return fetched.folder, fetched.version


def load_model(
    model: str | Path | Model | None = None, *, tracking_uri: str | None = None
) -> Model:
    """Load a trained model.

    Parameters
    ----------
    model : str or pathlib.Path, optional
        Folder that `train` wrote, or ``models:/NAME@ALIAS`` of MLflow's registry. Absent: the
        released model, which travels inside the package.
    tracking_uri : str, optional
        MLflow server or ``sqlite:///…`` of a registered model; absent: MLFLOW_TRACKING_URI, then
        ``mlflow.db`` here.

    Returns
    -------
    Model
        With `predict`. A model that is given comes back as it is.

    Raises
    ------
    BundleError
        If the folder holds no model, or a damaged one.
    TrackingError
        If the registry cannot be reached or does not know the model.

    Examples
    --------
    >>> import tempfile
    >>> import brainage
    >>> from brainage.cohorts.phantom import write_phantom_cohort
    >>> folder = tempfile.TemporaryDirectory()
    >>> cohort = brainage.read_cohort(write_phantom_cohort(folder.name, subjects=2, seed=0)).cohort
    >>> model = brainage.load_model()
    >>> result = model.predict(cohort.table["path"][0])
    >>> result.verdict
    'ok'
    >>> 18 < result.age_years < 97
    True
    >>> model.predict(cohort)[["scan_id", "verdict"]]
        scan_id verdict
    0  sub-0001      ok
    1  sub-0002      ok
    >>> folder.cleanup()
    """
    if isinstance(model, Model):
        return model
    # Brings torch, which takes seconds to import.
    from brainage.model.bundle import load_bundle

    chosen = choose_model(model)
    folder, version = resolve_model(chosen, tracking_uri)
    return Model(load_bundle(folder), str(chosen) if version else folder.resolve().name, version)


@contextmanager
def load_aside(
    model: str | Path | Model | None,
) -> Iterator[tuple[Config, Callable[[], Model]]]:
    """Load a model in a thread while scans are prepared; its settings are known at once.

    Yields
    ------
    Config
        The model's settings.
    callable
        Waits for the model; raises what `load_model` raises.
    """
    try:
        config = None if isinstance(model, Model) else _read_config(Path(choose_model(model)))
    except BrainageError:  # a registry's name, or a bundle of which loading tells the fault
        config = None
    if config is None:
        loaded = load_model(model)
        yield loaded.bundle.config, lambda: loaded
        return
    pool = ThreadPoolExecutor(max_workers=1)
    loading = pool.submit(load_model, model)
    try:
        yield config, loading.result
    finally:
        pool.shutdown(wait=False)


def _read_config(folder: Path) -> Config:
    """Read the settings of a bundle, or of an ensemble's first member, as loading does."""
    first = folder / next(iter(read_manifest(folder).get("members", {})), "")
    content = read_checked(first, read_manifest(first), ["config.yaml"])
    return parse_config(content["config.yaml"], str(first / "config.yaml"))


def register(
    folder: Path,
    name: str = MODEL_NAME,
    alias: str = CHAMPION,
    tracking_uri: str | None = None,
) -> None:
    """Store a bundle in the tracker and make it the version that an alias points to.

    A tracker that cannot be reached keeps it for later, as it keeps runs.

    Raises
    ------
    BundleError
        If the folder holds no bundle, or a damaged one.
    """
    from brainage.model.bundle import load_bundle

    bundle = load_bundle(folder)
    tracker = Tracker(Path.cwd(), tracking_uri, on_warning=warn)
    register_bundle(tracker, folder, bundle, name, alias)
    if tracker.uri is not None and not tracker.failed:
        say(f"registered as {name}; use it by --model models:/{name}@{alias}")


def register_bundle(
    tracker: Tracker, folder: Path, bundle: "Bundle", name: str = MODEL_NAME, alias: str = CHAMPION
) -> None:
    """Log a bundle's files in a run of their own and register them."""
    facts = bundle.facts
    tags: Json = {key: facts.get(key) for key in ("method", "network", "blocks", "members", "seed")}
    tags |= {"weights_sha256": bundle.weights_sha256, "brainage_version": facts["brainage_version"]}
    with tracker.start_run(f"model {name}", tags=tags) as run:
        metrics = facts.get("metrics", {})
        run.log_metrics({f"test_{key}": metrics.get(key) for key in ("mae_years", "r2")})
        run.log_bundle(folder, bundle_files(folder))
        run.register(name, alias, tags=tags, note=NOTE)
