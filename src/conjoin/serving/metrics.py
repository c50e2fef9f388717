"""Figures of a server in prometheus' text format: counts and seconds, and nothing of what was
asked."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from conjoin.questions.decide import ACCEPT
from conjoin.serving.gate import Gate

__all__ = ["Metrics"]


class Metrics:
    """Of one server; ``gate`` tells how many requests it holds."""

    def __init__(self, gate: Gate) -> None:
        self._registry = CollectorRegistry()
        labels = ["path", "status"]
        self.requests = Counter(
            "conjoin_requests", "Requests that were answered.", labels, registry=self._registry
        )
        self.left = Counter(
            "conjoin_clients_left", "Requests whose client left.", registry=self._registry
        )
        self.tokens = Counter(
            "conjoin_tokens", "Tokens that were written.", registry=self._registry
        )
        self.rows = Counter(
            "conjoin_rows", "Rows that were asked about or drawn.", registry=self._registry
        )
        self.refused = Counter(
            "conjoin_unfamiliar", "Texts that were unfamiliar.", registry=self._registry
        )
        self.joules = Counter(
            "conjoin_joules", "Energy of answers, counted or modelled.", registry=self._registry
        )
        self.answers = Counter(
            "conjoin_answers", "Answers, by verdict.", ["verdict"], registry=self._registry
        )
        self.seconds = Histogram(
            "conjoin_request_seconds", "From the body to the end.", registry=self._registry
        )
        inside = Gauge("conjoin_requests_held", "Requests held now.", registry=self._registry)
        inside.set_function(lambda: gate.inside)
        self._spent = 0.0
        self._accepted = 0
        each = Gauge(
            "conjoin_joules_per_accepted_answer",
            "Energy of all answers over those that were accepted; NaN without any.",
            registry=self._registry,
        )
        each.set_function(lambda: self._spent / self._accepted if self._accepted else float("nan"))

    def spent(self, joules: float) -> None:
        """Energy that answers took."""
        self._spent += joules
        self.joules.inc(joules)

    def answered(self, verdict: str | None, count: int = 1) -> None:
        """Answers of one verdict; None where none could be given."""
        self.answers.labels(verdict or "none").inc(count)
        self._accepted += count if verdict == ACCEPT else 0

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)
