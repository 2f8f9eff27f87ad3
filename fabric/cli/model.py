"""`fabric model`."""

from __future__ import annotations

import click

from fabric.cli.lazy import LazyGroup

COMMANDS = {
    "deploy": ("fabric.cli.model_deploy:deploy", "Serve a model file, over REST and gRPC."),
    "list": ("fabric.cli.model_show:list_models", "Every served model."),
    "show": ("fabric.cli.model_show:show", "One model: versions, replicas, place, and why so many."),
    "logs": ("fabric.cli.model_show:logs", "The last lines of its replicas."),
    "register": ("fabric.cli.model_register:register", "Keep a model file as the next version of a name."),
    "versions": ("fabric.cli.model_versions:versions", "Every registered version of a name."),
    "search": ("fabric.cli.model_versions:search", "Registered versions, by words and metadata."),
    "alias": ("fabric.cli.model_versions:alias", "Let champion, challenger, … stand for versions."),
    "fetch": ("fabric.cli.model_register:fetch", "Bring the files of a version here."),
    "deprecate": ("fabric.cli.model_versions:deprecate", "Mark a version as one not to begin with."),
    "unregister": ("fabric.cli.model_versions:unregister", "Delete a registered version."),
    "import": ("fabric.cli.model_register:import_models", "Versions from MLflow, or a Triton repository."),
    "export": ("fabric.cli.model_register:export_model", "A version to MLflow."),
    "delete": ("fabric.cli.model_show:delete", "End a model: all its versions."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def model() -> None:
    """Models: served, and registered with their versions."""
