"""The native engine: how f(t, y) becomes C.

    witness.py  what f runs; reach.py what this code reads; dependencies.py whether any of it has changed
    compiler/
        trace.py      one eager evaluation of f, recorded as aten operations         -> Graph (graph.py, conversions.py)
        record.py     the record of a problem's f on one lane; driving_inputs.py: of the inputs that drive it
        moments.py    at which times the record shows that inputs are read
        all_rules.py  the table of supported operations, each as scalar arithmetic
        lower.py      the graph as straight-line code and loops, with its derivatives -> Program (ir.py, derive.py)
        emit.py       the program as C source
        library.py    the libraries of one f: f and its product; its tangents
        build.py      the C compiler; disk_cache.py: the cache of compiled libraries
    c/          the runtime: the march, the pullback and all that a solve does besides f
    verify.py   the kernel compared with the eager f and its derivatives
    compile.py  kernel_for(problem) -> Kernel, or a Refusal with its reason
    cache.py    what is remembered of f from an earlier solve
    code.py     the compiled code of one f: linked to the runtime, and inlined where it is small
    engine.py   march, pullback and sensitivities of a problem whose f has become C

The translation unit of one right-hand side, with REAL (double or float), N numbers in a state (of one lane), P prepared
parameters, C_ constants that take no gradient, WORK and WORK_JVP(m) numbers of scratch:

    void field(REAL t, const REAL *y, const REAL *p, const REAL *c, REAL *k, REAL *work);
    void field_vjp(REAL t, const REAL *y, const REAL *p, const REAL *c, const REAL *w,
                   REAL *gy, REAL *gp, REAL *gt, REAL *work);

Where f is small and its samples many (translation_unit.py, simd.c), the same functions are there for
vectors of VW samples:

    void field_abreast(VREAL t, const VREAL *y, const VREAL *p, const VREAL *c, VREAL *k);
    void field_vjp_abreast(VREAL t, const VREAL *y, const VREAL *p, const VREAL *c, const VREAL *w,
                           VREAL *gy, VREAL *gp, VREAL *gt);

`field` writes k = f(t, y). `field_vjp` adds w^T df/dy to gy [N], w^T df/dp to gp [P] and w^T df/dt to gt [1]. The
runtime is compiled once for each precision and kept in the cache; a new f is compiled alone and linked to it (field.h).

The tangents of f are a library of their own, which is made when sensitivities or probes ask for them; it is handed to
the runtime, which calls k and dk [N][m] = df/dy dy + df/dp dp for m columns dy [N][m], dp [P][m] or NULL:

    void physid_tangents(REAL t, const REAL *y, const REAL *p, const REAL *c, int m, const REAL *dy, const REAL *dp,
                         REAL *k, REAL *dk, REAL *work);

What depends on neither t nor y is computed once, outside of the march: p is the *prepared* array, which `Kernel.pack`
makes from the RAW numbers of the captured tensors. `Kernel.pull` takes a cotangent gp [P] back to the captured
tensors, and `Kernel.seeds` gives dp/d(raw) [P, RAW], the tangents dp of the columns that belong to captured numbers.
"""

from __future__ import annotations
