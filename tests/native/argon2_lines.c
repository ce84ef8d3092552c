/* Hashes line by line, for a machine that this one only emulates: reads
 *
 *     VARIANT ITERATIONS MEM_KIB LENGTH PASSWORD SALT
 *
 * (the last two in hexadecimal digits, "-" if empty) and answers with the tag in hexadecimal
 * digits. Without a line to read it prints nothing; "variants" lists what runs here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "argon2.h"

enum { MOST = 4096 };

static void fail(const char *why)
{
    fprintf(stderr, "argon2_lines: %s\n", why);
    exit(1);
}

static const struct variant *variant_named(const char *name)
{
    for (unsigned i = 0; variants[i] != NULL; i++)
        if (strcmp(variants[i]->name, name) == 0)
            return variants[i];
    fail("no such variant");
    return NULL;
}

static size_t decode(const char *digits, uint8_t *bytes)
{
    size_t size = 0;
    if (strcmp(digits, "-") == 0)
        return 0;
    for (unsigned value; sscanf(digits + 2 * size, "%2x", &value) == 1; size++)
        bytes[size] = (uint8_t)value;
    return size;
}

int main(int count, char **arguments)
{
    static char name[32], password_digits[2 * MOST + 1], salt_digits[2 * MOST + 1];
    static uint8_t password[MOST], salt[MOST], tag[MOST];
    unsigned iterations, mem_kib, length;

    if (count == 2 && strcmp(arguments[1], "variants") == 0) {
        for (unsigned i = 0; variants[i] != NULL; i++)
            if (variants[i]->runs_here())
                puts(variants[i]->name);
        return 0;
    }
    while (scanf("%31s %u %u %u %8192s %8192s", name, &iterations, &mem_kib, &length,
                 password_digits, salt_digits) == 6) {
        struct argon2_input input = {
            password, salt, decode(password_digits, password), decode(salt_digits, salt),
            iterations, mem_kib, length,
        };
        if (length > MOST)
            fail("the tag is too long");
        struct arena *arena = arena_new(argon2_memory(mem_kib));
        if (arena == NULL)
            fail("no memory");
        argon2id(variant_named(name), &input, arena->memory, tag);
        arena_free(arena);
        for (unsigned i = 0; i < length; i++)
            printf("%02x", tag[i]);
        putchar('\n');
    }
    return 0;
}
