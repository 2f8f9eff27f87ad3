"""Running a model for many callers at once: who waits, who is refused, what shares a call, and in which thread it happens.

`serve_apps.execution.build` has the two doors: a service, or a bare loaded model, becomes a `ServedModel`. What decides (queue,
batcher, tuner, cache, inline choice) is plain synchronous code with the time passed in; `serve_apps.execution.served` is the one
asyncio shell around it.
"""
