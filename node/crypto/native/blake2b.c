#include "blake2b.h"

#include <string.h>

#include "compiler.h"

static const uint64_t initial[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

static const uint8_t sigma[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static inline uint64_t ror(uint64_t x, int n)
{
    return x >> n | x << (64 - n);
}

static ALWAYS_INLINE void mix(uint64_t *v, int a, int b, int c, int d, uint64_t x, uint64_t y)
{
    v[a] = v[a] + x + v[b];
    v[d] = ror(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = ror(v[b] ^ v[c], 24);
    v[a] = v[a] + y + v[b];
    v[d] = ror(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = ror(v[b] ^ v[c], 63);
}

static void compress(struct blake2b *state, const uint8_t *block, uint64_t last)
{
    uint64_t m[16], v[16];
    for (int i = 0; i < 16; i++)
        m[i] = load64(block + 8 * i);
    memcpy(v, state->h, sizeof state->h);
    memcpy(v + 8, initial, sizeof initial);
    v[12] ^= state->count;
    v[14] ^= last;
#pragma GCC unroll 12
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = sigma[round % 10];
        mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]]);
        mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]]);
        mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]]);
        mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]]);
        mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]]);
        mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]]);
        mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]]);
        mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]]);
    }
    for (int i = 0; i < 8; i++)
        state->h[i] ^= v[i] ^ v[i + 8];
}

void blake2b_start(struct blake2b *state, size_t length)
{
    memcpy(state->h, initial, sizeof initial);
    state->h[0] ^= 0x01010000 ^ length;
    state->count = 0;
    state->held = 0;
}

void blake2b_update(struct blake2b *state, const void *data, size_t size)
{
    const uint8_t *from = data;
    while (size > 0) {
        /* The last block is compressed differently, so a full one waits for what follows. */
        if (state->held == BLAKE2B_BLOCK) {
            state->count += BLAKE2B_BLOCK;
            compress(state, state->block, 0);
            state->held = 0;
        }
        size_t room = BLAKE2B_BLOCK - state->held;
        size_t taken = size < room ? size : room;
        memcpy(state->block + state->held, from, taken);
        state->held += taken;
        from += taken;
        size -= taken;
    }
}

void blake2b_finish(struct blake2b *state, uint8_t *digest, size_t length)
{
    uint8_t whole[BLAKE2B_MAX];
    state->count += state->held;
    memset(state->block + state->held, 0, BLAKE2B_BLOCK - state->held);
    compress(state, state->block, UINT64_MAX);
    for (int i = 0; i < 8; i++)
        store64(whole + 8 * i, state->h[i]);
    memcpy(digest, whole, length);
}

static void hash(uint8_t *digest, size_t length, const uint8_t *data, size_t size)
{
    struct blake2b state;
    blake2b_start(&state, length);
    blake2b_update(&state, data, size);
    blake2b_finish(&state, digest, length);
}

void blake2b_long(uint8_t *out, uint32_t length, const uint8_t *data, size_t size)
{
    struct blake2b state;
    uint8_t prefix[4], link[BLAKE2B_MAX];
    size_t first = length < BLAKE2B_MAX ? length : BLAKE2B_MAX;

    store32(prefix, length);
    blake2b_start(&state, first);
    blake2b_update(&state, prefix, sizeof prefix);
    blake2b_update(&state, data, size);
    blake2b_finish(&state, link, first);
    if (length <= BLAKE2B_MAX) {
        memcpy(out, link, length);
        return;
    }
    while (length > BLAKE2B_MAX) {
        memcpy(out, link, BLAKE2B_MAX / 2);
        out += BLAKE2B_MAX / 2;
        length -= BLAKE2B_MAX / 2;
        hash(link, length < BLAKE2B_MAX ? length : BLAKE2B_MAX, link, BLAKE2B_MAX);
    }
    memcpy(out, link, length);
}
