"""The operator from start to end: indices, leadership, workers, autoscaling, shutdown."""

import asyncio
import contextlib
import logging
import signal
from functools import partial
from typing import Any

from lepton_operator.events import Recorder
from lepton_operator.kube.access import Access
from lepton_operator.kube.client import ApiError, Client
from lepton_operator.kube.lease import Leadership, LostLeaseError
from lepton_operator.kube.resources import (
    CHILDREN,
    MODELS,
    MOUNT_EVENTS,
    MOUNT_EVENTS_FIELDS,
    POD_MONITORS,
    PODS,
)
from lepton_operator.kube.store import ModelKey
from lepton_operator.kube.watch import Watcher
from lepton_operator.observed import Model
from lepton_operator.queue import KeyedQueue
from lepton_operator.reconcile import Reconciler
from lepton_operator.scaling import ScalingLoop
from lepton_operator.scrape import Scraper
from lepton_operator.settings import RunSettings
from lepton_operator.stores import Stores
from lepton_operator.telemetry import Telemetry
from lepton_operator.web import WebServer

EXIT_OK, EXIT_FAILED = 0, 1
SHUTDOWN_SECONDS = 5.0
MAX_NOTES = 1024
"""Events of decisions that wait to be written; more are left to the log."""

_log = logging.getLogger("lepton.operator")


class Operator:
    """One operator process."""

    def __init__(self, access: Access, settings: RunSettings) -> None:
        self.settings = settings
        self.queue: KeyedQueue[ModelKey] = KeyedQueue()
        self.leadership = Leadership(settings.lease, settings.identity, settings.pods.operator_namespace)
        self.stores = Stores(self.queue.add)
        self.scraper = Scraper(settings.stats_interval)
        self.scaling = ScalingLoop(
            self.stores, self.scraper, settings.stats_interval, partial(self.queue.add, urgent=True), self._on_decision
        )
        self.telemetry = Telemetry(lambda: len(self.queue), lambda: self.leadership.held, self.scaling.live)
        self.client = Client(access, self.leadership.identity, self.leadership.check, self.telemetry.called)
        self.recorder = Recorder(self.client, self.leadership.identity)
        self.watchers = self._watchers()
        self.reconciler = Reconciler(
            self.client, self.stores, settings.pods, self.scaling, self.recorder, self._pod_monitors
        )
        self.web = WebServer(self.telemetry.text, lambda: True, self._synced)
        self._notes: asyncio.Queue[tuple[Model, str, str]] = asyncio.Queue(MAX_NOTES)
        self._stop = asyncio.Event()

    def _watchers(self) -> list[Watcher]:
        """What is watched, in every namespace that counts. PodMonitors and Events may be missing or forbidden."""
        found = []
        for namespace in self.settings.namespaces or (None,):
            for resource in (MODELS, PODS, *CHILDREN):
                found.append(Watcher(self.client, resource, self.stores.by_kind[resource.kind], namespace))
            monitors = self.stores.by_kind[POD_MONITORS.kind]
            found.append(Watcher(self.client, POD_MONITORS, monitors, namespace, optional=True))
            failures = self.stores.mount_failures
            found.append(
                Watcher(
                    self.client, MOUNT_EVENTS, failures, namespace, field_selector=MOUNT_EVENTS_FIELDS, optional=True
                )
            )
        return found

    def _pod_monitors(self) -> bool:
        return any(watcher.available for watcher in self.watchers if watcher.resource is POD_MONITORS)

    def _synced(self) -> bool:
        return all(watcher.synced.is_set() for watcher in self.watchers)

    def stop(self) -> None:
        """Asks for the end; the Lease is given back."""
        self._stop.set()

    async def run(self) -> int:
        """Runs until asked to stop, or until the Lease is lost.

        Returns:
            The exit status: 0 after `stop`, 1 for a lost Lease or a failure.
        """
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self.stop)
        stopping = asyncio.create_task(self._stop.wait())
        working = asyncio.create_task(self._work())
        try:
            await self.web.start(self.settings.metrics_host, self.settings.metrics_port)
            _log.info("metrics", extra={"host": self.settings.metrics_host, "port": self.web.port})
            await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            _log.info("stopping")
        except LostLeaseError as error:
            _log.error("the lease is lost", extra={"error": str(error)})
            return EXIT_FAILED
        except OSError as error:
            _log.error("cannot run", extra={"error": str(error)})
            return EXIT_FAILED
        finally:
            stopping.cancel()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await self._close()
        return EXIT_OK

    async def _work(self) -> None:
        """Follows the API, and once this process leads, acts. Ends by an error only."""
        try:
            async with asyncio.TaskGroup() as group:
                for watcher in self.watchers:
                    group.create_task(watcher.run())
                await self.leadership.acquire(self.client)
                group.create_task(self.leadership.keep(self.client))
                for watcher in self.watchers:
                    await watcher.synced.wait()
                _log.info("indices are filled", extra={"models": len(self.stores.models)})
                for _ in range(self.settings.workers):
                    group.create_task(self._worker())
                group.create_task(self.scaling.run())
                group.create_task(self._resync())
                group.create_task(self._tell_decisions())
        except BaseExceptionGroup as errors:
            lost = errors.subgroup(LostLeaseError)
            if lost is not None:
                raise _leaf(lost) from errors
            raise

    async def _worker(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            key, waited = await self.queue.take()
            began, result = loop.time(), "success"
            try:
                again = await self.reconciler.reconcile(key)
                self.queue.succeeded(key)
                if again is not None:
                    self.queue.add_after(key, again)
                if self.stores.models.get(*key) is None:
                    self.queue.forget(key)
            except LostLeaseError:
                raise
            except ApiError as error:
                result = "retry"
                seconds = self.queue.failed(key)
                _log.info(
                    "again later", extra={"model": "/".join(key), "seconds": round(seconds, 1), "error": str(error)}
                )
            except Exception:
                # One model's fault must not end the others' work; the metric counts it, the log tells it.
                result = "error"
                self.queue.failed(key)
                _log.exception("reconcile failed", extra={"model": "/".join(key)})
            finally:
                self.queue.done(key)
                self.telemetry.reconciled(result, loop.time() - began, waited)

    async def _resync(self) -> None:
        """Looks at every model at times, spread over the interval."""
        while True:
            keys = self.stores.models.names()
            pause = self.settings.resync / max(1, len(keys))
            for key in keys:
                await asyncio.sleep(pause)
                self.queue.add(key)
            if not keys:
                await asyncio.sleep(self.settings.resync)

    def _on_decision(self, model: Model, before: int, after: int, why: str) -> None:
        self.telemetry.scaled(before, after)
        _log.info("scaling", extra={"model": "/".join(model.key), "before": before, "after": after, "reason": why})
        reason = "ScaledUp" if after > before else "ScaledDown"
        with contextlib.suppress(asyncio.QueueFull):  # The log has it.
            self._notes.put_nowait((model, reason, f"{before} -> {after} replicas; {why}"))

    async def _tell_decisions(self) -> None:
        """Events of the decisions, one after the other: what they tell of has precedence."""
        while True:
            model, reason, note = await self._notes.get()
            await self.recorder.record(model, "Normal", reason, "Scale", note)

    async def _close(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await self.leadership.release(self.client)
        await self.scraper.close()
        await self.client.close()
        await self.web.close()
        self.telemetry.close()


def _leaf(group: BaseExceptionGroup[Any]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
