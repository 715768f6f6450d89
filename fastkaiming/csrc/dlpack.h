/* dlpack.h - the part of DLPack that fastkaiming uses: a tensor's memory, and the table of functions with which a
 * framework exports it without creating a Python object.
 *
 * Source: dlpack.h of DLPack 1.3 (https://github.com/dmlc/dlpack), whose binary interface is fixed within a major
 * version. The names and the order of the fields are DLPack's; functions that are not called here are declared
 * without their parameters. */
#ifndef FASTKAIMING_DLPACK_H
#define FASTKAIMING_DLPACK_H

#include <stdint.h>

enum { FK_DLPACK_MAJOR_VERSION = 1, FK_DLPACK_CPU = 1 };

typedef struct { uint32_t major, minor; } DLPackVersion;

typedef struct { int32_t device_type, device_id; } DLDevice;

typedef struct {
    uint8_t code, bits;
    uint16_t lanes;
} DLDataType;

typedef struct {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape;   /* in elements; valid while the owner of the tensor lives */
    int64_t *strides; /* likewise; NULL if the elements are contiguous in row-major order */
    uint64_t byte_offset;
} DLTensor;

/* The contents of the capsule `__dlpack_c_exchange_api__` of a tensor type. The capsule is named "dlpack_exchange_api".
 */
typedef struct {
    DLPackVersion version;
    void *previous_interface;
    void (*managed_tensor_allocator)(void);
    void (*managed_tensor_from_py_object_no_sync)(void);
    void (*managed_tensor_to_py_object_no_sync)(void);
    int (*dltensor_from_py_object_no_sync)(void *object,
                                           DLTensor *tensor); /* may be NULL; returns -1 with a Python exception set */
    void (*current_work_stream)(void);
} DLPackExchangeAPI;

#endif
