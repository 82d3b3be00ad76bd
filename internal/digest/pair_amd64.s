//go:build !purego

#include "textflag.h"

// Two independent SHA-256 computations in one instruction stream. One alone
// waits for itself: each SHA256RNDS2 needs the result of the one before, four
// cycles later, while the unit could start another one in between.
//
//            stream 0       stream 1
// state      X1 X2          X8 X9
// schedule   X3 X4 X5 X6    X10 X11 X12 X13
// scratch    X7             X14
//
// X0 is the operand that SHA256RNDS2 has built in, X15 reverses the bytes of
// the input's words. AX is the table of constants, SI and DI the data, CX the
// number of blocks left.

// LOAD takes four words of input, and does four rounds with them.
#define LOAD(at, k, ptr, msg, abef, cdgh) \
	MOVOU       at(ptr), msg;    \
	PSHUFB      X15, msg;        \
	MOVOA       msg, X0;         \
	PADDD       k(AX), X0;       \
	SHA256RNDS2 X0, abef, cdgh;  \
	PSHUFD      $0x0e, X0, X0;   \
	SHA256RNDS2 X0, cdgh, abef

// NEXT does four rounds with the words in cur, and finishes the four words
// that are used next from those before cur and from cur.
#define NEXT(k, before, cur, next, tmp, abef, cdgh) \
	MOVOA       cur, X0;         \
	PADDD       k(AX), X0;       \
	SHA256RNDS2 X0, abef, cdgh;  \
	MOVOA       cur, tmp;        \
	PALIGNR     $4, before, tmp; \
	PADDD       tmp, next;       \
	SHA256MSG2  cur, next;       \
	PSHUFD      $0x0e, X0, X0;   \
	SHA256RNDS2 X0, cdgh, abef

// LAST does the last four rounds.
#define LAST(k, cur, abef, cdgh) \
	MOVOA       cur, X0;         \
	PADDD       k(AX), X0;       \
	SHA256RNDS2 X0, abef, cdgh;  \
	PSHUFD      $0x0e, X0, X0;   \
	SHA256RNDS2 X0, cdgh, abef

// The same for both streams. The names of stream 0 stand for both.
#define NEXT2(k, a, b, c, d, e, f) \
	NEXT(k, a, b, c, X7, X1, X2)  \
	NEXT(k, d, e, f, X14, X8, X9)

// Registers hold the state as A B E F and C D G H from the highest word down,
// memory holds A to H. UNPACK turns memory into registers, PACK turns back.
#define UNPACK(ptr, abef, cdgh, tmp) \
	MOVOU   (ptr), abef;        \
	MOVOU   16(ptr), cdgh;      \
	PSHUFD  $0xb1, abef, abef;  \
	PSHUFD  $0x1b, cdgh, cdgh;  \
	MOVOA   abef, tmp;          \
	PALIGNR $8, cdgh, abef;     \
	PBLENDW $0xf0, tmp, cdgh

#define PACK(ptr, abef, cdgh, tmp) \
	PSHUFD  $0x1b, abef, abef;  \
	PSHUFD  $0xb1, cdgh, cdgh;  \
	MOVOA   abef, tmp;          \
	PBLENDW $0xf0, cdgh, abef;  \
	PALIGNR $8, tmp, cdgh;      \
	MOVOU   abef, (ptr);        \
	MOVOU   cdgh, 16(ptr)

// func blocks2(h0, h1 *state, p0, p1 *byte, n int)
TEXT ·blocks2(SB), NOSPLIT, $64-40
	MOVQ h0+0(FP), R8
	MOVQ h1+8(FP), R9
	MOVQ p0+16(FP), SI
	MOVQ p1+24(FP), DI
	MOVQ n+32(FP), CX
	TESTQ CX, CX
	JLE  done
	UNPACK(R8, X1, X2, X7)
	UNPACK(R9, X8, X9, X14)
	MOVOU flip<>(SB), X15
	LEAQ k256<>(SB), AX

block:
	MOVOU X1, 0(SP)
	MOVOU X2, 16(SP)
	MOVOU X8, 32(SP)
	MOVOU X9, 48(SP)

	LOAD(0, 0, SI, X3, X1, X2)
	LOAD(0, 0, DI, X10, X8, X9)
	LOAD(16, 16, SI, X4, X1, X2)
	LOAD(16, 16, DI, X11, X8, X9)
	SHA256MSG1 X4, X3
	SHA256MSG1 X11, X10
	LOAD(32, 32, SI, X5, X1, X2)
	LOAD(32, 32, DI, X12, X8, X9)
	SHA256MSG1 X5, X4
	SHA256MSG1 X12, X11
	MOVOU 48(SI), X6
	PSHUFB X15, X6
	MOVOU 48(DI), X13
	PSHUFB X15, X13

	NEXT2(48, X5, X6, X3, X12, X13, X10)
	SHA256MSG1 X6, X5
	SHA256MSG1 X13, X12
	NEXT2(64, X6, X3, X4, X13, X10, X11)
	SHA256MSG1 X3, X6
	SHA256MSG1 X10, X13
	NEXT2(80, X3, X4, X5, X10, X11, X12)
	SHA256MSG1 X4, X3
	SHA256MSG1 X11, X10
	NEXT2(96, X4, X5, X6, X11, X12, X13)
	SHA256MSG1 X5, X4
	SHA256MSG1 X12, X11

	NEXT2(112, X5, X6, X3, X12, X13, X10)
	SHA256MSG1 X6, X5
	SHA256MSG1 X13, X12
	NEXT2(128, X6, X3, X4, X13, X10, X11)
	SHA256MSG1 X3, X6
	SHA256MSG1 X10, X13
	NEXT2(144, X3, X4, X5, X10, X11, X12)
	SHA256MSG1 X4, X3
	SHA256MSG1 X11, X10
	NEXT2(160, X4, X5, X6, X11, X12, X13)
	SHA256MSG1 X5, X4
	SHA256MSG1 X12, X11

	NEXT2(176, X5, X6, X3, X12, X13, X10)
	SHA256MSG1 X6, X5
	SHA256MSG1 X13, X12
	NEXT2(192, X6, X3, X4, X13, X10, X11)
	SHA256MSG1 X3, X6
	SHA256MSG1 X10, X13
	NEXT2(208, X3, X4, X5, X10, X11, X12)
	NEXT2(224, X4, X5, X6, X11, X12, X13)
	LAST(240, X6, X1, X2)
	LAST(240, X13, X8, X9)

	MOVOU 0(SP), X0
	PADDD X0, X1
	MOVOU 16(SP), X0
	PADDD X0, X2
	MOVOU 32(SP), X0
	PADDD X0, X8
	MOVOU 48(SP), X0
	PADDD X0, X9

	ADDQ $64, SI
	ADDQ $64, DI
	DECQ CX
	JNZ  block

	PACK(R8, X1, X2, X7)
	PACK(R9, X8, X9, X14)

done:
	RET

// func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET

// flip reverses the bytes of each 32-bit word.
DATA flip<>+0(SB)/8, $0x0405060700010203
DATA flip<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL flip<>(SB), RODATA|NOPTR, $16

// The round constants of FIPS 180-4, 4.2.2.
DATA k256<>+0(SB)/8, $0x71374491428a2f98
DATA k256<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA k256<>+16(SB)/8, $0x59f111f13956c25b
DATA k256<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA k256<>+32(SB)/8, $0x12835b01d807aa98
DATA k256<>+40(SB)/8, $0x550c7dc3243185be
DATA k256<>+48(SB)/8, $0x80deb1fe72be5d74
DATA k256<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA k256<>+64(SB)/8, $0xefbe4786e49b69c1
DATA k256<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA k256<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA k256<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA k256<>+96(SB)/8, $0xa831c66d983e5152
DATA k256<>+104(SB)/8, $0xbf597fc7b00327c8
DATA k256<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA k256<>+120(SB)/8, $0x1429296706ca6351
DATA k256<>+128(SB)/8, $0x2e1b213827b70a85
DATA k256<>+136(SB)/8, $0x53380d134d2c6dfc
DATA k256<>+144(SB)/8, $0x766a0abb650a7354
DATA k256<>+152(SB)/8, $0x92722c8581c2c92e
DATA k256<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA k256<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA k256<>+176(SB)/8, $0xd6990624d192e819
DATA k256<>+184(SB)/8, $0x106aa070f40e3585
DATA k256<>+192(SB)/8, $0x1e376c0819a4c116
DATA k256<>+200(SB)/8, $0x34b0bcb52748774c
DATA k256<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA k256<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA k256<>+224(SB)/8, $0x78a5636f748f82ee
DATA k256<>+232(SB)/8, $0x8cc7020884c87814
DATA k256<>+240(SB)/8, $0xa4506ceb90befffa
DATA k256<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL k256<>(SB), RODATA|NOPTR, $256
