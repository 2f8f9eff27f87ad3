"""From a registered version to what a deploy takes, and back: the digest of its source in the artefact store."""

from __future__ import annotations

from fabric.artefacts import ArtefactStore, Digest
from fabric.registry.version import ModelFile, ModelVersion
from serve_apps.registry.reading import SERVICE
from serve_apps.source import FileSource, ServiceSource, Source, get_source, put_source

_PICKLED = "service.pkl"


def source_of(version: ModelVersion, store: ArtefactStore) -> Source:
    """What a replica builds the version from. `store`: the fabric's. Raises: UserError (`artefact_not_found`)."""
    if version.framework == SERVICE:
        return get_source(Digest(version.files[0].digest), store)
    return FileSource(tuple((file.path, Digest(file.digest)) for file in version.files), version.main)


def source_digest(version: ModelVersion, store: ArtefactStore) -> Digest:
    """What `DeployRequest.source` names."""
    if version.framework == SERVICE:
        return Digest(version.files[0].digest)
    return put_source(source_of(version, store), store)


def files_of(source: Source, store: ArtefactStore) -> tuple[tuple[ModelFile, ...], str]:
    """The files and the `main` under which a source that is stored already is registered."""
    if isinstance(source, ServiceSource):
        return (ModelFile(_PICKLED, put_source(source, store)),), _PICKLED
    return tuple(ModelFile(path, digest) for path, digest in source.files), source.main
