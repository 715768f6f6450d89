/* key.h - derives a Philox key from a seed.
 *
 * Other libraries use the seed itself as the Philox key. The mixing here separates fastkaiming's words from those of
 * other libraries, so that, for example, weights and dropout masks of the same seed are independent. docs/stream-v1.md,
 * section 2, is the normative text. */
#ifndef FASTKAIMING_KEY_H
#define FASTKAIMING_KEY_H

#include <stdint.h>

/* The finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) with
 * the shifts and factors of java.util.SplittableRandom and Vigna's splitmix64.c (variant 13 of Stafford's "Better bit
 * mixing", 2011), applied to the seed plus a constant: the 8-byte BLAKE2b digest (RFC 7693) of "fastkaiming", read as a
 * little-endian number.
 *
 * Range: all seeds. The function is a bijection of the 64-bit numbers: different seeds have different keys. */
static inline uint64_t fk_philox_key(uint64_t seed) {
    uint64_t z = seed + UINT64_C(0x782CB42F65763AD6);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

#endif
