"""Forms of the law: each is one formula, from which its code, its derivatives and its LaTeX come.

A form gives the expected loss -ln(a) of the accuracy adjusted for chance, a = (accuracy - chance) / (1 - chance), as a
function of

    N  parameters of the model, relative to the reference size of the fit
    B  nominal bits of a weight           E  effective bits (scales and zero points included)
    G  group size                         C  calibration samples
    F  the loss of the model's own original, -ln(a16): a form with it is anchored, -ln(a) = F + D, and its D >= 0 is the
       damage of quantization alone

Where a table has several families, each has an intercept of its own (a multiple of A), and all other parameters are
shared. Adding a form is adding one object to ``FORMS``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import sympy
from numpy.typing import NDArray

from stratalaw.errors import StratalawError

FACTORS = {
    "N": "n_params",
    "B": "bits",
    "E": "effective_bits",
    "G": "group_size",
    "C": "calibration_size",
    "F": "baseline_loss",
}


def family_code(family: str) -> str:
    """The factor that is 1 for rows of a family (see ``rows.family_codes``)."""
    return f"family {family}"


def family_shift(family: str) -> str:
    """The parameter by which a family's ln A differs from the families' mean."""
    return f"shift {family}"


class FormError(StratalawError):
    """There is no such form of the law; the message is one line that names those that there are."""


Compiled = Callable[..., list[NDArray[np.float64]]]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a form; a positive one is fitted as its logarithm.

    ``starts``: where fits start; ``factor``: the factor whose effect it is, so that it is 0 where that does not vary;
    ``prior``: mean and standard deviation of what is known of it beforehand, which counts where the rows tell nothing.
    """

    name: str
    starts: tuple[float, ...]
    positive: bool = False
    factor: str | None = None
    prior: tuple[float, float] | None = None


def positive(name: str, *starts: float, factor: str | None = None) -> Parameter:
    return Parameter(name, starts, positive=True, factor=factor)


def real(name: str, *starts: float, factor: str | None = None) -> Parameter:
    return Parameter(name, starts, factor=factor)


@dataclass(frozen=True)
class Form:
    """A form of the law.

    ``formula``: the loss -ln(a), as an expression of the factors and the parameters; ``reference``: where it comes
    from.

    Methods take parameters as they are fitted (positive ones as logarithms), one column each, with any leading
    dimensions, and factors as arrays of shape (rows,).
    """

    name: str
    title: str
    formula: str
    parameters: tuple[Parameter, ...]
    reference: str
    families: tuple[str, ...] = ()

    @cached_property
    def _symbols(self) -> dict[str, sympy.Symbol]:
        # Positive symbols let logarithms of products fall apart.
        factors = {name: sympy.Symbol(name, positive=True) for name in FACTORS}
        codes = {family_code(name): sympy.Symbol(family_code(name), real=True) for name in self.families[:-1]}
        parameters = {p.name: sympy.Symbol(p.name, real=True, positive=p.positive or None) for p in self.parameters}
        return factors | codes | parameters

    @cached_property
    def loss(self) -> sympy.Expr:
        """The expected loss as a symbolic expression."""
        shared = sympy.sympify(self.formula, locals=self._symbols)
        if not self.families:
            return shared
        scale, symbols = self._symbols["A"], self._symbols
        shift = sum(symbols[family_shift(name)] * symbols[family_code(name)] for name in self.families[:-1])
        return shared.subs(scale, scale * sympy.exp(shift))

    @property
    def is_anchored(self) -> bool:
        """Whether the form starts from the model's own original."""
        return "F" in self.factors

    def pooled(self, families: Sequence[str]) -> Form:
        """The form for a table of several families: each has its own intercept around their mean."""
        if len(families) < 2:
            return self
        shifts = tuple(real(family_shift(name), 0.0) for name in families[:-1])
        return replace(self, parameters=(*self.parameters, *shifts), families=tuple(families))

    @property
    def latex(self) -> str:
        return r"-\ln a = " + str(sympy.latex(self.loss))

    def without_priors(self) -> Form:
        """The form with nothing known beforehand."""
        return replace(self, parameters=tuple(replace(p, prior=None) for p in self.parameters))

    def unpooled(self) -> Form:
        """The form without intercepts of families."""
        shifts = {family_shift(name) for name in self.families}
        return replace(self, parameters=tuple(p for p in self.parameters if p.name not in shifts), families=())

    @cached_property
    def factors(self) -> tuple[str, ...]:
        """The factors that the formula needs, such as ("N", "B")."""
        names = (*FACTORS, *map(family_code, self.families[:-1]))
        return tuple(name for name in names if self._symbols[name] in self.loss.free_symbols)

    @cached_property
    def _fitted(self) -> tuple[list[sympy.Symbol], sympy.Expr]:
        """Symbols of the parameters as they are fitted, and the loss in terms of them."""
        symbols = [sympy.Symbol(f"fitted_{p.name}", real=True) for p in self.parameters]
        values = {
            self._symbols[p.name]: sympy.exp(symbol) if p.positive else symbol
            for p, symbol in zip(self.parameters, symbols, strict=True)
        }
        return symbols, self.loss.subs(values)

    @cached_property
    def _loss(self) -> Compiled:
        return _compiled(self, derivatives=False)

    @cached_property
    def _loss_and_gradient(self) -> Compiled:
        return _compiled(self, derivatives=True)

    def accuracy(self, fitted: NDArray[np.float64], factors: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Adjusted accuracies at fitted parameters, (..., p), shape (..., rows)."""
        columns = [fitted[..., i, None] for i in range(len(self.parameters))]
        rows = len(next(iter(factors.values())))
        with np.errstate(all="ignore"):
            [loss] = self._loss(*columns, *(factors[name] for name in self.factors))
            return np.exp(-np.broadcast_to(loss, (*fitted.shape[:-1], rows)))

    def evaluate(
        self, fitted: NDArray[np.float64], factors: Mapping[str, NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Adjusted accuracies, shape (..., rows), and their derivatives by the fitted parameters, (..., rows, p)."""
        columns = [fitted[..., i, None] for i in range(len(self.parameters))]
        with np.errstate(all="ignore"):
            loss, *gradient = self._loss_and_gradient(*columns, *(factors[name] for name in self.factors))
            rows = len(next(iter(factors.values())))
            shape = (*fitted.shape[:-1], rows)
            accuracy = np.exp(-np.broadcast_to(loss, shape))
            jacobian = np.empty((*shape, len(gradient)))
            for i, part in enumerate(gradient):
                np.multiply(part, -accuracy, out=jacobian[..., i])
            return accuracy, jacobian

    def javascript(self, fitted: NDArray[np.float64]) -> str:
        """The loss as a JavaScript expression of the factors, without that of the model's own original, and of S, by
        how much ln A of the model's family differs from the families' mean."""
        shared = self.unpooled()
        symbols, loss = shared._fitted
        values = dict(zip(symbols, map(float, fitted[: len(symbols)]), strict=True))
        if self.families:
            scale = symbols[[p.name for p in shared.parameters].index("A")]
            values[scale] += sympy.Symbol("S", real=True)
        loss = loss.subs(shared._symbols["F"], 0)
        code: str = sympy.jscode(loss.subs(values))
        return code

    @property
    def is_log_linear(self) -> bool:
        """Whether ln(-ln a) is linear in the fitted parameters, so that linear regression fits the form."""
        return _compiled_log_design(self) is not None

    def log_design(self, factors: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Regressors of ln(-ln a), shape (rows, p); only for log-linear forms."""
        regressors = _compiled_log_design(self)
        if regressors is None:
            raise FormError(f"the form {self.name} is not linear in the logarithm")
        columns = regressors(*(factors[name] for name in self.factors))
        rows = len(next(iter(factors.values())))
        return np.stack([np.broadcast_to(np.asarray(column, dtype=float), rows) for column in columns], axis=1)

    def without(self, constant: Collection[str]) -> Form:
        """The form for data in which some factors do not vary: the parameters of their effects are 0."""
        dropped = tuple(p for p in self.parameters if p.factor in constant)
        return _without(self, dropped) if dropped else self

    def to_fitted(self, values: Iterable[float]) -> NDArray[np.float64]:
        """Natural values of the parameters as they are fitted."""
        pairs = zip(self.parameters, values, strict=True)
        return np.array([np.log(value) if p.positive else value for p, value in pairs])

    def to_natural(self, fitted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fitted parameters, shape (..., p), as natural values."""
        is_positive = np.array([p.positive for p in self.parameters])
        with np.errstate(over="ignore"):
            return np.where(is_positive, np.exp(np.where(is_positive, fitted, 0)), fitted)

    def starts(self, count: int, seed: int = 0) -> NDArray[np.float64]:
        """Points to start a fit from, shape (count, p): combinations of the parameters' own starts."""
        combinations = np.array(np.meshgrid(*(p.starts for p in self.parameters), indexing="ij"))
        combinations = combinations.reshape(len(self.parameters), -1).T
        if len(combinations) > count:
            others = np.random.default_rng(seed).permutation(np.arange(1, len(combinations)))[: count - 1]
            combinations = combinations[np.concatenate([[0], np.sort(others)])]
        return np.stack([self.to_fitted(values) for values in combinations])


@lru_cache(maxsize=512)
def _without(form: Form, dropped: tuple[Parameter, ...]) -> Form:
    """The form without some of its parameters, which are 0."""
    shared = sympy.sympify(form.formula, locals=form._symbols)
    formula = shared.subs({form._symbols[p.name]: 0 for p in dropped})
    return replace(form, formula=str(formula), parameters=tuple(p for p in form.parameters if p not in dropped))


@lru_cache(maxsize=1024)
def _compiled(form: Form, derivatives: bool) -> Compiled:
    """The loss, and its derivatives by the fitted parameters, as a function of these and of the factors.

    Forms are made anew from others (``without``, ``pooled``) wherever they are needed; equal ones are derived once.
    """
    symbols, loss = form._fitted
    arguments = [*symbols, *(form._symbols[name] for name in form.factors)]
    wanted = [loss, *(sympy.diff(loss, symbol) for symbol in symbols if derivatives)]
    found: Compiled = sympy.lambdify(arguments, wanted, modules="numpy", cse=True)
    return found


@lru_cache(maxsize=512)
def _compiled_log_design(form: Form) -> Compiled | None:
    """The derivatives of ln(-ln a) by the fitted parameters as a function of the factors, if it is linear in them."""
    symbols, loss = form._fitted
    logarithm = sympy.expand_log(sympy.log(loss), force=True)
    # Of a product this is as simple as it gets; to simplify what comes of a sum would take seconds.
    design = [sympy.diff(logarithm, symbol) for symbol in symbols]
    if any(part.free_symbols & set(symbols) for part in design):
        return None
    found: Compiled = sympy.lambdify([form._symbols[name] for name in form.factors], design, modules="numpy")
    return found


PAPER = "Zhou et al., arXiv 2508.18609"
SCALE = positive("A", 0.5, 0.1, 2.0)
ALPHA, BETA = real("alpha", -0.3, -1.0, factor="N"), real("beta", -1.0, -3.0, factor="B")
GAMMA, DELTA = real("gamma", -0.03, -0.3, factor="C"), real("delta", 0.07, 0.3, factor="G")
OMEGA = real("omega", 0.0, -0.3, factor="N")

PAPER_LAW = Form(
    "paper",
    "the paper's law",
    "A * N**alpha * log(B, 2)**beta * log(C, 2)**gamma * G**delta",
    (SCALE, ALPHA, BETA, GAMMA, DELTA),
    PAPER,
)

# The bits count from BITS_ORIGIN on, so that A is the damage at the lowest bits that are fitted.
BITS_ORIGIN = 3
DAMAGE = f"A * N**alpha * exp(-c*({{bits}} - {BITS_ORIGIN})) * (C/32)**gamma * (G/64)**delta"
DAMAGE_PARAMETERS = (
    positive("A", 0.3, 0.05, 1.0),
    real("alpha", 0.0, -0.3, factor="N"),
    # A bit halves the rounding error and quarters its square; where only one width does damage, nothing else tells.
    Parameter("c", (1.2, 0.7), factor="B", prior=(float(np.log(4)), 0.5)),
    real("gamma", 0.0, -0.1, factor="C"),
    real("delta", 0.3, 0.0, factor="G"),
)

FORMS = (
    PAPER_LAW,
    Form(
        "paper-effective",
        "the paper's law with effective bits",
        "A * N**alpha * log(E, 2)**beta * log(C, 2)**gamma * G**delta",
        (SCALE, ALPHA, BETA, GAMMA, DELTA),
        f"{PAPER}, with the effective bits of its first version",
    ),
    Form(
        "anchored",
        "the model's own original, and a power law of the damage",
        f"F + {DAMAGE.format(bits='B')}",
        DAMAGE_PARAMETERS,
        "ours",
    ),
    Form(
        "anchored-effective",
        "the model's own original, and a power law of the damage with effective bits",
        f"F + {DAMAGE.format(bits='E')}",
        DAMAGE_PARAMETERS,
        "ours",
    ),
    Form("size", "size only", "A * N**alpha", (SCALE, ALPHA), f"{PAPER}, ablation"),
    Form(
        "size-bits",
        "size and bits",
        "A * N**alpha * log(B, 2)**beta",
        (SCALE, ALPHA, BETA),
        f"{PAPER}, ablation",
    ),
    Form(
        "size-bits-group",
        "size, bits and group size",
        "A * N**alpha * log(B, 2)**beta * G**delta",
        (SCALE, ALPHA, BETA, DELTA),
        f"{PAPER}, ablation",
    ),
    Form(
        "size-bits-calibration",
        "size, bits and calibration",
        "A * N**alpha * log(B, 2)**beta * log(C, 2)**gamma",
        (SCALE, ALPHA, BETA, GAMMA),
        f"{PAPER}, ablation",
    ),
    Form(
        "additive",
        "a floor of the size, and quantization on top",
        "A * N**alpha + K * N**omega * exp(-c * B) * G**delta * (1 + m / C)",
        (
            SCALE,
            ALPHA,
            positive("K", 5.0, 50.0),
            OMEGA,
            positive("c", 1.0, 2.0),
            DELTA,
            positive("m", 1.0, factor="C"),
        ),
        "after the two-term laws of quantization (Kumar et al., arXiv 2411.04330)",
    ),
    Form(
        "sigmoid",
        "a ceiling of the size, times a sigmoid of effective bits",
        "A * N**alpha + log(1 + exp(-(E - b - u*log(N) - g*log(G, 2) - v*log(C, 2)) / w))",
        (
            SCALE,
            ALPHA,
            real("b", 2.5, 1.5),
            real("u", 0.0, factor="N"),
            real("g", 0.0, factor="G"),
            real("v", 0.0, factor="C"),
            positive("w", 0.5, 1.0),
        ),
        "ours",
    ),
    Form(
        "log-group",
        "a floor of the size, and a power of log2 of the group size",
        "A * N**alpha + K * N**omega * exp(-c * B) * log(G, 2)**g",
        (SCALE, ALPHA, positive("K", 5.0, 50.0), OMEGA, positive("c", 1.0, 2.0), real("g", 0.5, factor="G")),
        "after Chen et al., arXiv 2505.14302 (quantization-aware training)",
    ),
    Form(
        "exponential",
        "exponential in bits",
        "A * N**alpha + K * N**omega * exp(-c * B)",
        (SCALE, ALPHA, positive("K", 5.0, 50.0), OMEGA, positive("c", 1.0, 2.0)),
        "Kumar et al., arXiv 2411.04330",
    ),
)


def form_named(name: str) -> Form:
    """The form of a name.

    Raises:
        FormError: there is none; names those that there are.
    """
    for form in FORMS:
        if form.name == name:
            return form
    raise FormError(f"there is no form {name}; there are {', '.join(form.name for form in FORMS)}")
