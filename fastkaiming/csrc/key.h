/* key.h - a seed to a Philox key.
 *
 * Other libraries take a seed as the Philox key itself. The mixing keeps the words of a seed here apart from theirs, so
 * that weights and, say, the dropout masks of one seed are independent. docs/stream-v1.md, section 2, is the normative
 * text.
 */
#ifndef FASTKAIMING_KEY_H
#define FASTKAIMING_KEY_H

#include <stdint.h>

/* The finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), with
 * the shifts and factors that java.util.SplittableRandom and Vigna's splitmix64.c use (variant 13 of Stafford's "Better
 * bit mixing", 2011), over the seed plus a constant: the BLAKE2b digest of 8 bytes (RFC 7693) of "fastkaiming", read as
 * a little-endian number.
 *
 * Range: all seeds. A bijection of the 64-bit numbers: different seeds have different keys. */
static inline uint64_t fk_philox_key(uint64_t seed) {
    uint64_t z = seed + UINT64_C(0x782CB42F65763AD6);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

#endif
