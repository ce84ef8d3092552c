/* The halves of the permutation for instruction sets whose vectors hold pairs of words, each pair
 * of another permutation: four words of a row are two vectors, and a turn by two is a change of
 * names. Included after blamka.h, with SECOND_FIRST(x, y) defined: in each pair, the second word of
 * x and the first of y. */

#define PAIR_TURN1(x, k)                                                                           \
    {                                                                                              \
        vec x0 = x[k], x1 = x[k + 1];                                                              \
        x[k] = SECOND_FIRST(x0, x1), x[k + 1] = SECOND_FIRST(x1, x0);                              \
    }
#define PAIR_TURN2(x, k)                                                                           \
    {                                                                                              \
        vec x0 = x[k];                                                                             \
        x[k] = x[k + 1], x[k + 1] = x0;                                                            \
    }
#define PAIR_TURN3(x, k)                                                                           \
    {                                                                                              \
        vec x0 = x[k], x1 = x[k + 1];                                                              \
        x[k] = SECOND_FIRST(x1, x0), x[k + 1] = SECOND_FIRST(x0, x1);                              \
    }

#define PAIR_IN(k) PAIR_TURN3(a, k) PAIR_TURN2(d, k) PAIR_TURN1(c, k)
#define PAIR_OUT(k) PAIR_TURN1(a, k) PAIR_TURN2(d, k) PAIR_TURN3(c, k)

static ALWAYS_INLINE void permute_pairs(vec *z, struct stride at)
{
    PERMUTE(PAIR_IN(0) PAIR_IN(2), PAIR_OUT(0) PAIR_OUT(2))
}
