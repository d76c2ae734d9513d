/* What is compiled of f: numbers and vectors of VW numbers, and how its functions and the runtime find one another.
 *
 * A unit has the functions of one f. With APART they are linked to a runtime that serves every f, which is compiled once,
 * with ANY_F; else the runtime follows them in the unit, and they are inlined there. Whatever the way, no sum runs in
 * another order: the numbers are the same to the last bit.
 */
#include <math.h>
#include <string.h>

#ifdef __AVX512F__
#define VW ((int)(64 / sizeof(REAL)))
#else
#define VW ((int)(32 / sizeof(REAL)))
#endif
typedef REAL VREAL __attribute__((vector_size(VW * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#define SPLAT(x) ((VREAL){0} + (x))
#define WORK 1
#define WORK_JVP(m) (VW * (N + P + 1))
#define HIDDEN __attribute__((visibility("hidden")))
#if defined(APART) || defined(ANY_F)
#define FIELD HIDDEN
#else
#define FIELD static FIELD_INLINE
#endif
#ifdef ANY_F
extern HIDDEN const int unit_n, unit_p, unit_c, unit_side_by_side;
#define N unit_n
#define P unit_p
#define C_ unit_c
#define SIDE_BY_SIDE unit_side_by_side
#define ABREAST
HIDDEN void field(REAL t, const REAL *restrict y, const REAL *restrict p, const REAL *restrict c, REAL *restrict k,
                  REAL *restrict work);
HIDDEN void field_vjp(REAL t, const REAL *restrict y, const REAL *restrict p, const REAL *restrict c,
                      const REAL *restrict w, REAL *restrict gy, REAL *restrict gp, REAL *restrict gt,
                      REAL *restrict work);
HIDDEN void field_abreast(VREAL t, const VREAL *restrict y, const VREAL *restrict p, const VREAL *restrict c,
                          VREAL *restrict k);
HIDDEN void field_vjp_abreast(VREAL t, const VREAL *restrict y, const VREAL *restrict p, const VREAL *restrict c,
                              const VREAL *restrict w, VREAL *restrict gy, VREAL *restrict gp, VREAL *restrict gt);
#else
#define SIDE_BY_SIDE 1 /* where ABREAST is defined */
#endif
