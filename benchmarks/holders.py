"""Where people keep the numbers that their right-hand sides read, and how they change them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """A holder: its statements, the expression that reads its number, the statement that changes it.

    NAME is another name for every holder, OLD and NEW are two numbers.
    """

    made: str
    read: str
    change: str


def _module(body: str) -> str:
    return f'NAME = types.ModuleType("NAME_module"); sys.modules["NAME_module"] = NAME\nexec({body!r}, NAME.__dict__)'


def _nn(init: str, forward: str, more: str = "") -> str:
    return (
        f"class NAME_Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        {init}\n"
        f"    def forward(self, x):\n        return {forward}\n{more}NAME = NAME_Net()"
    )


HOLDERS: dict[str, Kept] = {
    "global": Kept("NAME = OLD", "NAME", "NAME = NEW"),
    "whole global": Kept("NAME = 1", "NAME", "NAME = 2"),
    "flag": Kept("NAME = True", "(OLD if NAME else NEW)", "NAME = False"),
    "text": Kept("NAME = 'a'", "(OLD if NAME == 'a' else NEW)", "NAME = 'b'"),
    "none": Kept("NAME = None", "(OLD if NAME is None else NAME)", "NAME = NEW"),
    "closure": Kept(
        "def NAME_make():\n    k = OLD\n    def get():\n        return k\n    def put(v):\n        nonlocal k\n"
        "        k = v\n    return get, put\nNAME, NAME_put = NAME_make()",
        "NAME()",
        "NAME_put(NEW)",
    ),
    "default": Kept("def NAME(k=OLD):\n    return k", "NAME()", "NAME.__defaults__ = (NEW,)"),
    "keyword default": Kept("def NAME(*, k=OLD):\n    return k", "NAME()", "NAME.__kwdefaults__['k'] = NEW"),
    "code": Kept("def NAME():\n    return OLD", "NAME()", "NAME.__code__ = (lambda: NEW).__code__"),
    "attribute of a function": Kept("def NAME():\n    return NAME.k\nNAME.k = OLD", "NAME()", "NAME.k = NEW"),
    "instance": Kept("class NAME_C: pass\nNAME = NAME_C(); NAME.k = OLD", "NAME.k", "NAME.k = NEW"),
    "deep": Kept(
        "class NAME_C: pass\nNAME = NAME_C(); NAME.a = NAME_C(); NAME.a.b = NAME_C(); NAME.a.b.k = OLD",
        "NAME.a.b.k",
        "NAME.a.b.k = NEW",
    ),
    "replaced object": Kept(
        "class NAME_C:\n    def __init__(self, k): self.k = k\nNAME = NAME_C(OLD)", "NAME.k", "NAME = NAME_C(NEW)"
    ),
    "slots": Kept("class NAME_C:\n    __slots__ = ('k',)\nNAME = NAME_C(); NAME.k = OLD", "NAME.k", "NAME.k = NEW"),
    "private slots": Kept(
        "class NAME_C:\n    __slots__ = ('__k',)\n    def get(self): return self.__k\n"
        "    def put(self, v): self.__k = v\nNAME = NAME_C(); NAME.put(OLD)",
        "NAME.get()",
        "NAME.put(NEW)",
    ),
    "data class": Kept(
        "@dataclasses.dataclass\nclass NAME_C:\n    k: float = 0.0\nNAME = NAME_C(OLD)", "NAME.k", "NAME.k = NEW"
    ),
    "data class with slots": Kept(
        "@dataclasses.dataclass(slots=True)\nclass NAME_C:\n    k: float = 0.0\nNAME = NAME_C(OLD)",
        "NAME.k",
        "NAME.k = NEW",
    ),
    "frozen data class": Kept(
        "@dataclasses.dataclass(frozen=True)\nclass NAME_C:\n    k: float\nNAME = NAME_C(OLD)",
        "NAME.k",
        "NAME = NAME_C(NEW)",
    ),
    "frozen, forced": Kept(
        "@dataclasses.dataclass(frozen=True)\nclass NAME_C:\n    k: float\nNAME = NAME_C(OLD)",
        "NAME.k",
        "object.__setattr__(NAME, 'k', NEW)",
    ),
    "namespace": Kept("NAME = types.SimpleNamespace(k=OLD)", "NAME.k", "NAME.k = NEW"),
    "class": Kept("class NAME:\n    k = OLD", "NAME.k", "NAME.k = NEW"),
    "class by its object": Kept("class NAME_C:\n    k = OLD\nNAME = NAME_C()", "NAME.k", "NAME_C.k = NEW"),
    "shadowed": Kept("class NAME_C:\n    k = OLD\nNAME = NAME_C()", "NAME.k", "NAME.k = NEW"),
    "overridden": Kept(
        "class NAME_B:\n    k = OLD\nclass NAME_C(NAME_B): pass\nNAME = NAME_C()", "NAME.k", "NAME_C.k = NEW"
    ),
    "base": Kept("class NAME_B:\n    k = OLD\nclass NAME_C(NAME_B): pass\nNAME = NAME_C()", "NAME.k", "NAME_B.k = NEW"),
    "another class": Kept(
        "class NAME_B:\n    k = OLD\nclass NAME_C:\n    k = NEW\nNAME = NAME_B()", "NAME.k", "NAME.__class__ = NAME_C"
    ),
    "metaclass": Kept(
        "class NAME_M(type):\n    k = OLD\nclass NAME(metaclass=NAME_M): pass", "NAME.k", "NAME_M.k = NEW"
    ),
    "property": Kept(
        "class NAME_C:\n    @property\n    def k(self): return self._k * 1.0\nNAME = NAME_C(); NAME._k = OLD",
        "NAME.k",
        "NAME._k = NEW",
    ),
    "cached property": Kept(
        "class NAME_C:\n    s = OLD\n    @functools.cached_property\n    def k(self): return self.s\nNAME = NAME_C()",
        "NAME.k",
        "NAME_C.s = NEW; NAME.__dict__.pop('k', None)",
    ),
    "own lookup": Kept(
        "class NAME_C:\n    def __init__(self): self.__dict__['d'] = {'k': OLD}\n"
        "    def __getattr__(self, name):\n        try: return self.d[name]\n"
        "        except KeyError: raise AttributeError(name) from None\nNAME = NAME_C()",
        "NAME.k",
        "NAME.d['k'] = NEW",
    ),
    "computed name": Kept(
        "class NAME_C: pass\nNAME = NAME_C(); NAME.k1 = OLD", "getattr(NAME, 'k' + str(1))", "NAME.k1 = NEW"
    ),
    "vars": Kept("class NAME_C: pass\nNAME = NAME_C(); NAME.k = OLD", "sum(vars(NAME).values())", "NAME.k = NEW"),
    "replaced attributes": Kept(
        "class NAME_C: pass\nNAME = NAME_C(); NAME.k = OLD", "NAME.k", "NAME.__dict__ = {'k': NEW}"
    ),
    "descriptor": Kept(
        "class NAME_D:\n    def __get__(self, obj, owner=None): return self.k\n"
        "class NAME_C:\n    d = NAME_D()\nNAME_C.__dict__['d'].k = OLD\nNAME = NAME_C()",
        "NAME.d",
        "NAME_C.__dict__['d'].k = NEW",
    ),
    "module": Kept(_module("K = OLD"), "NAME.K", "NAME.K = NEW"),
    "function of a module": Kept(_module("K = OLD\ndef get():\n    return K"), "NAME.get()", "NAME.K = NEW"),
    "replaced function of a module": Kept(
        _module("def get():\n    return OLD"), "NAME.get()", "NAME.get = lambda: NEW"
    ),
    "class of a module": Kept(_module("class S:\n    k = OLD"), "NAME.S.k", "NAME.S.k = NEW"),
    "list": Kept("NAME = [OLD, 0.5]", "NAME[0]", "NAME[0] = NEW"),
    "longer list": Kept("NAME = [OLD]", "sum(NAME)", "NAME.append(NEW)"),
    "nested list": Kept("NAME = [[0.0, [OLD]]]", "NAME[0][1][0]", "NAME[0][1][0] = NEW"),
    "dict": Kept("NAME = {'k': OLD}", "NAME['k']", "NAME['k'] = NEW"),
    "dict with a default": Kept("NAME = {}", "NAME.get('k', OLD)", "NAME['k'] = NEW"),
    "renamed key": Kept("NAME = {'k': NEW}", "NAME.get('k', OLD)", "NAME['l'] = NAME.pop('k')"),
    "items": Kept("NAME = {'k': OLD}", "sum(v for _, v in NAME.items())", "NAME['k'] = NEW"),
    "order": Kept("NAME = collections.OrderedDict(a=OLD, b=NEW)", "next(iter(NAME.values()))", "NAME.move_to_end('a')"),
    "default dict": Kept("NAME = collections.defaultdict(lambda: OLD)", "NAME['k']", "NAME['k'] = NEW"),
    "counter": Kept("NAME = collections.Counter('aab')", "float(NAME['a'])", "NAME.update('aa')"),
    "set": Kept("NAME = {OLD}", "sum(NAME)", "NAME.clear(); NAME.add(NEW)"),
    "membership": Kept("NAME = {'a'}", "(OLD if 'b' in NAME else NEW)", "NAME.add('b')"),
    "frozen set": Kept("NAME = frozenset([OLD])", "sum(NAME)", "NAME = frozenset([NEW])"),
    "deque": Kept("NAME = collections.deque([OLD], maxlen=2)", "NAME[-1]", "NAME.append(NEW)"),
    "tuple": Kept("NAME = (OLD, 1.0)", "NAME[0]", "NAME = (NEW, 1.0)"),
    "list in a tuple": Kept("NAME = ([OLD],)", "NAME[0][0]", "NAME[0][0] = NEW"),
    "named tuple": Kept(
        "NAME_T = collections.namedtuple('NAME_T', 'k l')\nNAME = NAME_T(OLD, 1.0)",
        "NAME.k",
        "NAME = NAME._replace(k=NEW)",
    ),
    "own dict": Kept("class NAME_D(dict): pass\nNAME = NAME_D(k=OLD)", "NAME['k']", "NAME['k'] = NEW"),
    "own list": Kept(
        "class NAME_L(list):\n    scale = 1.0\nNAME = NAME_L([OLD])", "NAME[0] * NAME.scale", "NAME.scale = NEW"
    ),
    "proxy": Kept("NAME_d = {'k': OLD}\nNAME = types.MappingProxyType(NAME_d)", "NAME['k']", "NAME_d['k'] = NEW"),
    "bytes": Kept("NAME = bytearray([1])", "float(NAME[0])", "NAME[0] = 2"),
    "NumPy scalar": Kept("NAME = np.float64(OLD)", "float(NAME)", "NAME = np.float64(NEW)"),
    "NumPy single": Kept("NAME = np.float32(1.5)", "float(NAME)", "NAME = np.float32(2.5)"),
    "array": Kept("NAME = np.array([OLD, 1.0])", "float(NAME[0])", "NAME[0] = NEW"),
    "array without axes": Kept("NAME = np.array(OLD)", "float(NAME)", "NAME[...] = NEW"),
    "view of an array": Kept("NAME_a = np.array([OLD, 1.0])\nNAME = NAME_a[:1]", "float(NAME[0])", "NAME_a[0] = NEW"),
    "array of a record": Kept(
        "NAME = np.array([(OLD, 1)], dtype=[('k', 'f8'), ('n', 'i4')])", "float(NAME['k'][0])", "NAME['k'][0] = NEW"
    ),
    "array to tensor": Kept("NAME = np.array([OLD])", "torch.as_tensor(NAME)", "NAME[0] = NEW"),
    "array into a tensor": Kept("NAME = np.array([OLD])", "torch.tensor(NAME)", "NAME[0] = NEW"),
    "tensor": Kept("NAME = torch.tensor(OLD, dtype=D)", "NAME", "NAME.fill_(NEW)"),
    "replaced tensor": Kept("NAME = torch.tensor(OLD, dtype=D)", "NAME", "NAME = torch.tensor(NEW, dtype=D)"),
    "tensor past its version": Kept("NAME = torch.tensor([OLD, 1.0], dtype=D)", "NAME[0]", "NAME.data[0] = NEW"),
    "zeros": Kept("NAME = torch.tensor([0.0, 1.0], dtype=D)", "NAME.sum() * OLD + NAME[0]", "NAME.data[0] = NEW"),
    "tensor over NumPy": Kept(
        "NAME_a = np.array([OLD, 1.0])\nNAME = torch.from_numpy(NAME_a)", "NAME[0]", "NAME_a[0] = NEW"
    ),
    "zeros over NumPy": Kept(
        "NAME_a = np.array([0.0, 1.0])\nNAME = torch.from_numpy(NAME_a)", "(NAME * OLD).sum()", "NAME_a[0] = NEW"
    ),
    "index": Kept(
        "NAME = torch.tensor([0])\nNAME_t = torch.tensor([OLD, NEW], dtype=D)", "NAME_t[NAME]", "NAME[0] = 1"
    ),
    "index over NumPy": Kept(
        "NAME_a = np.array([0])\nNAME = torch.from_numpy(NAME_a)\nNAME_t = torch.tensor([OLD, NEW], dtype=D)",
        "NAME_t[NAME]",
        "NAME_a[0] = 1",
    ),
    "index past its version": Kept(
        "NAME = torch.tensor([0])\nNAME_t = torch.tensor([OLD, NEW], dtype=D)", "NAME_t[NAME]", "NAME.data[0] = 1"
    ),
    "mask": Kept("NAME = torch.tensor([True, False])", "torch.where(NAME, OLD, NEW)", "NAME.logical_not_()"),
    "number of a tensor": Kept("NAME = torch.tensor(1)", "float(NAME)", "NAME.fill_(2)"),
    "attribute of a tensor": Kept("NAME = torch.ones(1, dtype=D); NAME.k = OLD", "NAME.k * NAME", "NAME.k = NEW"),
    "enum": Kept(
        "class NAME_E(enum.Enum):\n    A = OLD\n    B = NEW\nNAME = NAME_E.A", "NAME.value", "NAME = NAME_E.B"
    ),
    "environment": Kept("os.environ['NAME'] = str(OLD)", "float(os.environ['NAME'])", "os.environ['NAME'] = str(NEW)"),
    "environment, got": Kept(
        "os.environ.pop('NAME', None)", "float(os.getenv('NAME', 'OLD'))", "os.environ['NAME'] = str(NEW)"
    ),
    "cached function": Kept(
        "NAME_k = OLD\n@functools.lru_cache\ndef NAME(): return NAME_k", "NAME()", "NAME_k = NEW; NAME.cache_clear()"
    ),
    "cached, filled again": Kept(
        "NAME_k = OLD\n@functools.cache\ndef NAME(): return NAME_k",
        "NAME()",
        "NAME_k = NEW; NAME.cache_clear(); NAME()",
    ),
    "partial": Kept("NAME = functools.partial(lambda k: k, k=OLD)", "NAME()", "NAME.keywords['k'] = NEW"),
    "replaced partial": Kept(
        "NAME = functools.partial(lambda k: k, OLD)", "NAME()", "NAME = functools.partial(lambda k: k, NEW)"
    ),
    "list in a partial": Kept(
        "NAME_l = [OLD]\nNAME = functools.partial(lambda l: l[0], NAME_l)", "NAME()", "NAME_l[0] = NEW"
    ),
    "method": Kept(
        "class NAME_C:\n    k = OLD\n    def get(self): return self.k\nNAME_o = NAME_C()\nNAME = NAME_o.get",
        "NAME()",
        "NAME_o.k = NEW",
    ),
    "replaced method": Kept(
        "class NAME_C:\n    def get(self): return OLD\nNAME = NAME_C()", "NAME.get()", "NAME_C.get = lambda self: NEW"
    ),
    "method of one object": Kept(
        "class NAME_C:\n    def get(self): return OLD\nNAME = NAME_C()", "NAME.get()", "NAME.get = lambda: NEW"
    ),
    "static method": Kept(
        "class NAME:\n    @staticmethod\n    def get(): return OLD",
        "NAME.get()",
        "NAME.get = staticmethod(lambda: NEW)",
    ),
    "class method": Kept(
        "class NAME:\n    k = OLD\n    @classmethod\n    def get(cls): return cls.k", "NAME.get()", "NAME.k = NEW"
    ),
    "callable": Kept(
        "class NAME_C:\n    def __call__(self): return self.k\nNAME = NAME_C(); NAME.k = OLD", "NAME()", "NAME.k = NEW"
    ),
    "operator": Kept(
        "class NAME_C:\n    def __init__(self, k): self.k = k\n    def __rmul__(self, x): return x * self.k\n"
        "NAME = NAME_C(OLD)",
        "(1.0 * NAME)",
        "NAME.k = NEW",
    ),
    "container of its own": Kept(
        "class NAME_C:\n    def __getitem__(self, i): return self.k[i]\n    def __len__(self): return 1\n"
        "NAME = NAME_C(); NAME.k = [OLD]",
        "NAME[0]",
        "NAME.k[0] = NEW",
    ),
    "functions in a dict": Kept("NAME = {'g': lambda: OLD}", "NAME['g']()", "NAME['g'] = lambda: NEW"),
    "decorated": Kept(
        "NAME_k = OLD\ndef NAME_d(g):\n    @functools.wraps(g)\n    def inner(): return g() * NAME_k\n"
        "    return inner\n@NAME_d\ndef NAME(): return 1.0",
        "NAME()",
        "NAME_k = NEW",
    ),
    "imported inside": Kept(
        _module("K = OLD") + "\ndef NAME_get():\n    import NAME_module\n    return NAME_module.K",
        "NAME_get()",
        "NAME.K = NEW",
    ),
    "name imported inside": Kept(
        _module("K = OLD") + "\ndef NAME_get():\n    from NAME_module import K\n    return K",
        "NAME_get()",
        "NAME.K = NEW",
    ),
    "a builtin hidden": Kept("NAME = OLD", "abs(NAME)", "abs = lambda x: NEW"),
    "generator": Kept("NAME = [OLD]\ndef NAME_g():\n    yield from NAME", "sum(NAME_g())", "NAME[0] = NEW"),
    "held iterator": Kept("NAME_l = [OLD] * 999\nNAME = iter(NAME_l)", "next(NAME)", "NAME_l[:] = [NEW] * 999"),
    "context": Kept(
        "import contextvars\nNAME = contextvars.ContextVar('NAME', default=OLD)", "NAME.get()", "NAME.set(NEW)"
    ),
    "weak reference": Kept(
        "import weakref\nclass NAME_C: pass\nNAME_o = NAME_C(); NAME_o.k = OLD\nNAME = weakref.ref(NAME_o)",
        "NAME().k",
        "NAME_o.k = NEW",
    ),
    "getter": Kept(
        "import operator\nNAME_o = types.SimpleNamespace(k=OLD)\nNAME = operator.attrgetter('k')",
        "NAME(NAME_o)",
        "NAME_o.k = NEW",
    ),
    "buffer": Kept(
        _nn("self.register_buffer('k', torch.tensor(OLD, dtype=D))", "x * self.k"),
        "NAME(1.0)",
        "NAME.k = torch.tensor(NEW, dtype=D)",
    ),
    "parameter": Kept(
        _nn("self.k = nn.Parameter(torch.tensor(OLD, dtype=D))", "x * self.k"), "NAME(1.0)", "NAME.k.data.fill_(NEW)"
    ),
    "replaced parameter": Kept(
        _nn("self.k = nn.Parameter(torch.tensor(OLD, dtype=D))", "x * self.k"),
        "NAME(1.0)",
        "NAME.k = nn.Parameter(torch.tensor(NEW, dtype=D))",
    ),
    "frozen parameter": Kept(
        _nn("self.k = nn.Parameter(torch.tensor(OLD, dtype=D))", "x * self.k"),
        "NAME(1.0)",
        "NAME.k.requires_grad_(False)",
    ),
    "attribute of a net": Kept(_nn("self.k = OLD", "x * self.k"), "NAME(1.0)", "NAME.k = NEW"),
    "forward hook": Kept(
        _nn("self.k = OLD", "x * self.k"), "NAME(1.0)", "NAME.register_forward_hook(lambda m, x, out: out * NEW)"
    ),
    "hook before": Kept(
        _nn("self.k = OLD", "x * self.k"), "NAME(1.0)", "NAME.register_forward_pre_hook(lambda m, x: (x[0] * NEW,))"
    ),
    "hook with a number": Kept(
        _nn("self.k = OLD", "x * self.k")
        + "\nNAME_h = [OLD]\nNAME.register_forward_hook(lambda m, x, out: out * NAME_h[0])",
        "NAME(1.0)",
        "NAME_h[0] = NEW",
    ),
    "hook of all": Kept(
        _nn("self.k = OLD", "x * self.k"),
        "NAME(1.0)",
        "hooks.append(nn.modules.module.register_module_forward_hook(lambda m, x, out: out * NEW))",
    ),
    "training": Kept(_nn("pass", "x * (OLD if self.training else NEW)"), "NAME(1.0)", "NAME.eval()"),
    "forward replaced": Kept(_nn("self.k = OLD", "x * self.k"), "NAME(1.0)", "NAME.forward = lambda x: x * NEW"),
    "forward of the class": Kept(
        _nn("self.k = OLD", "x * self.k"), "NAME(1.0)", "NAME_Net.forward = lambda self, x: x * NEW"
    ),
    "layers": Kept(
        "torch.manual_seed(1)\nNAME = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()",
        "NAME(y)",
        "NAME[1] = nn.Sigmoid()",
    ),
    "slope of a layer": Kept("NAME = nn.LeakyReLU(0.1)", "NAME(y - 1.0)", "NAME.negative_slope = 0.3"),
    "one more layer": Kept(
        _nn("self.l = nn.ModuleList([nn.Tanh()])", "functools.reduce(lambda a, m: m(a), self.l, x)"),
        "NAME(y)",
        "NAME.l.append(nn.Sigmoid())",
    ),
    "dropout": Kept("NAME = nn.Dropout(0.5).eval()", "NAME(y)", "NAME.train()"),
    "linear by its class": Kept(
        "class NAME_L(nn.Linear): pass\ntorch.manual_seed(2)\nNAME = NAME_L(2, 2).double()",
        "NAME(y)",
        "NAME.bias = None",
    ),
    "weight norm": Kept(
        "torch.manual_seed(3)\nNAME = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2).double())",
        "NAME(y)",
        "NAME.parametrizations.weight.original0.data.mul_(NEW)",
    ),
    "default dtype": Kept("pass", "torch.tensor(OLD).double()", "torch.set_default_dtype(torch.float64)"),
}
