/* The permutation of a block in vectors of one pair: both halves work on pairs, of two rows and of
 * two columns at once. Included after pairs.h. */

static ALWAYS_INLINE void permute_rows(vec *z)
{
    for (int row = 0; row < 8; row += 2)
        permute_pairs(z + 8 * row, (struct stride){2, 1, 8});
}

static ALWAYS_INLINE void permute_columns(vec *z)
{
    permute_pairs(z, (struct stride){16, 8, 1});
}

static ALWAYS_INLINE void permute_first_columns(vec *z)
{
    permute_columns(z);
}

static ALWAYS_INLINE void permute_last_columns(vec *z)
{
    for (int column = 2; column < 8; column += 2)
        permute_columns(z + column);
}

static ALWAYS_INLINE unsigned place(unsigned k)
{
    return k;
}
