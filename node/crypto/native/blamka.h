/* BlaMka, Argon2's permutation of sixteen words, on vectors (RFC 9106 §3.6). An instruction set's
 * file includes this once it has defined
 *
 *   vec                          a vector of 64-bit words
 *   ADD XOR MUL(x, y)            wordwise; MUL multiplies the low halves of the words
 *   ROR32 ROR24 ROR16 ROR63(x)   rotations to the right
 *
 * Four vectors make a row a, b, c or d of what is permuted at once. They are independent of each
 * other while the chain within one is long, so each step is written for all four. */

#define EACH(step, ...)                                                                            \
    step(0, __VA_ARGS__) step(1, __VA_ARGS__) step(2, __VA_ARGS__) step(3, __VA_ARGS__)

#define MULTIPLY(k, x, y) vec m##k = MUL(x[k], y[k]);
#define SUM(k, x, y) x[k] = ADD(x[k], y[k]);
#define DOUBLE(k, _) m##k = ADD(m##k, m##k);
#define SUM_PRODUCT(k, x) x[k] = ADD(x[k], m##k);
#define XOR_WITH(k, x, y) x[k] = XOR(x[k], y[k]);
#define ROTATE(k, x, ror) x[k] = ror(x[k]);

/* x = x + y + 2 * low(x) * low(y); z = (z ^ x) >>> n */
#define QUARTER(x, y, z, ror)                                                                      \
    {                                                                                              \
        EACH(MULTIPLY, x, y)                                                                       \
        EACH(SUM, x, y)                                                                            \
        EACH(DOUBLE, )                                                                             \
        EACH(SUM_PRODUCT, x)                                                                       \
        EACH(XOR_WITH, z, x)                                                                       \
        EACH(ROTATE, z, ror)                                                                       \
    }

#define HALF_ROUND(a, b, c, d)                                                                     \
    QUARTER(a, b, d, ROR32)                                                                        \
    QUARTER(c, d, b, ROR24)                                                                        \
    QUARTER(a, b, d, ROR16)                                                                        \
    QUARTER(c, d, b, ROR63)

/* Vector k of row r of what permute works on lies at z[r * row + k % 2 * odd + k / 2 * two]. */
struct stride {
    int row, odd, two;
};

#define AT(r, k) z[(r) * at.row + (k) % 2 * at.odd + (k) / 2 * at.two]
#define TAKE(k, _) a[k] = AT(0, k), b[k] = AT(1, k), c[k] = AT(2, k), d[k] = AT(3, k);
#define GIVE(k, _) AT(0, k) = a[k], AT(1, k) = b[k], AT(2, k) = c[k], AT(3, k) = d[k];

/* The second half works on the diagonals. Turning a, c and d against b, rather than b, c and d
 * against a, keeps the turns off the longest chain, which ends in b. */
#define PERMUTE(IN, OUT)                                                                           \
    vec a[4], b[4], c[4], d[4];                                                                    \
    EACH(TAKE, )                                                                                   \
    HALF_ROUND(a, b, c, d)                                                                         \
    IN                                                                                             \
    HALF_ROUND(a, b, c, d)                                                                         \
    OUT                                                                                            \
    EACH(GIVE, )
