/* Argon2id v0x13 with one lane, no secret and no associated data (RFC 9106 §3). */
#ifndef UNCHAINED_ARGON2_H
#define UNCHAINED_ARGON2_H

#include "fill.h"

struct argon2_input {
    const uint8_t *password, *salt;
    size_t password_size, salt_size;
    uint32_t iterations, mem_kib, length;
};

/* The bytes of memory that argon2id needs, 64-byte aligned; what lies there does not matter. */
static inline size_t argon2_memory(uint32_t mem_kib)
{
    return (size_t)(mem_kib / SLICES) * SLICES * BLOCK_BYTES;
}

/* Write input->length bytes to tag. */
void argon2id(const struct variant *variant, const struct argon2_input *input, uint64_t *memory,
              uint8_t *tag);

#endif
