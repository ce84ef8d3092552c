#include "argon2.h"

#include "blake2b.h"

enum { VERSION = 0x13, TYPE_ID = 2 };

static void update32(struct blake2b *state, uint32_t value)
{
    uint8_t bytes[4];
    store32(bytes, value);
    blake2b_update(state, bytes, sizeof bytes);
}

/* RFC 9106 §3.2, step 1. */
static void initial_hash(const struct argon2_input *input, uint8_t *seed)
{
    struct blake2b state;
    blake2b_start(&state, BLAKE2B_MAX);
    update32(&state, 1);
    update32(&state, input->length);
    update32(&state, input->mem_kib);
    update32(&state, input->iterations);
    update32(&state, VERSION);
    update32(&state, TYPE_ID);
    update32(&state, (uint32_t)input->password_size);
    blake2b_update(&state, input->password, input->password_size);
    update32(&state, (uint32_t)input->salt_size);
    blake2b_update(&state, input->salt, input->salt_size);
    update32(&state, 0);
    update32(&state, 0);
    blake2b_finish(&state, seed, BLAKE2B_MAX);
}

void argon2id(const struct variant *variant, const struct argon2_input *input, uint64_t *memory,
              uint8_t *tag)
{
    uint8_t seed[BLAKE2B_MAX + 8] = {0};
    uint8_t bytes[BLOCK_BYTES];
    struct filling filling = {memory, input->mem_kib / SLICES * SLICES, input->iterations};

    initial_hash(input, seed);
    for (uint32_t column = 0; column < 2; column++) {
        store32(seed + BLAKE2B_MAX, column);
        blake2b_long(bytes, BLOCK_BYTES, seed, sizeof seed);
        for (unsigned k = 0; k < BLOCK_WORDS; k++)
            block_at(&filling, column)[variant->place(k)] = load64(bytes + 8 * k);
    }
    variant->fill(&filling);
    const uint64_t *last = block_at(&filling, filling.lane_length - 1);
    for (unsigned k = 0; k < BLOCK_WORDS; k++)
        store64(bytes + 8 * k, last[variant->place(k)]);
    blake2b_long(tag, input->length, bytes, BLOCK_BYTES);
}
