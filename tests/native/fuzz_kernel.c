/* What libFuzzer calls: any bytes are an Argon2id to compute, in every variant that runs here.
 *
 *     u8 iterations - 1 (of 3) | u16 mem_kib - 8 (of 57) | u16 length - 4 (of 1,024)
 *     | u8 length of the salt - 8 (of 64) | salt | password
 *
 * All of them have to give one tag, and none may touch a byte beside what it was given: input, tag
 * and blocks lie each in memory of exactly their size, which the sanitizers watch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "argon2.h"

enum { HEAD = 6, MIN_SALT = 8, BOUNDARY = 64 };

static void *of_size(size_t size)
{
    void *found = aligned_alloc(BOUNDARY, size); /* of the blocks: a multiple of it */
    if (found == NULL)
        abort();
    return found;
}

static uint8_t *copy_of(const uint8_t *data, size_t size)
{
    uint8_t *found = malloc(size);
    if (found == NULL && size)
        abort();
    if (size)
        memcpy(found, data, size);
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD + MIN_SALT)
        return 0;
    uint32_t iterations = 1 + data[0] % 3;
    uint32_t mem_kib = 8 + (uint32_t)(data[1] << 8 | data[2]) % 57;
    uint32_t length = 4 + (uint32_t)(data[3] << 8 | data[4]) % 1024;
    size_t salt_size = MIN_SALT + data[5] % 64;
    data += HEAD, size -= HEAD;
    if (salt_size > size)
        salt_size = size;
    size_t password_size = size - salt_size;
    uint8_t *salt = copy_of(data, salt_size), *password = copy_of(data + salt_size, password_size);
    struct argon2_input input = {
        password, salt, password_size, salt_size, iterations, mem_kib, length,
    };

    uint8_t *first = NULL;
    for (unsigned i = 0; variants[i] != NULL; i++) {
        if (!variants[i]->runs_here())
            continue;
        uint64_t *memory = of_size(argon2_memory(mem_kib));
        memset(memory, (int)i, argon2_memory(mem_kib));
        uint8_t *tag = malloc(length);
        if (tag == NULL)
            abort();
        argon2id(variants[i], &input, memory, tag);
        free(memory);
        if (first == NULL) {
            first = tag;
            continue;
        }
        if (memcmp(first, tag, length) != 0) {
            fprintf(stderr, "%s gives another tag\n", variants[i]->name);
            abort();
        }
        free(tag);
    }
    free(first);
    free(salt);
    free(password);
    return 0;
}
