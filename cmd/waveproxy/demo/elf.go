package demo

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
)

// The executable is one file and one segment: the headers, the code, indent,
// and the message. Linux maps it at base, which is aligned to the largest page
// size of both architectures.
const (
	base       = 0x400000
	alignment  = 0x10000
	headerSize = 64 // of an elf.Header64
	segment    = 56 // size of an elf.Prog64
	codeOffset = headerSize + segment

	indent = "  "
)

// targets are the architectures there is code for.
var targets = map[string]struct {
	machine elf.Machine
	// code is the program. data is the address of indent, which the message of
	// that length follows.
	code func(data, length uint32) []byte
}{
	"amd64": {elf.EM_X86_64, amd64Code},
	"arm64": {elf.EM_AARCH64, arm64Code},
}

// Executable is a static Linux executable for an architecture of targets. It
// writes message, then every environment variable on a line of its own behind
// indent, and exits with status 0. A message has less than 64 KiB.
func Executable(arch, message string) []byte {
	target := targets[arch]
	// The length of the code does not depend on its operands.
	data := uint32(base + codeOffset + len(target.code(0, 0)))
	text := slices.Concat(target.code(data, uint32(len(message))), []byte(indent), []byte(message))
	size := uint64(codeOffset + len(text))

	header := elf.Header64{
		Ident:     [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:      uint16(elf.ET_EXEC),
		Machine:   uint16(target.machine),
		Version:   uint32(elf.EV_CURRENT),
		Entry:     base + codeOffset,
		Phoff:     headerSize,
		Ehsize:    headerSize,
		Phentsize: segment,
		Phnum:     1,
	}
	load := elf.Prog64{
		Type:   uint32(elf.PT_LOAD),
		Flags:  uint32(elf.PF_R | elf.PF_X),
		Vaddr:  base,
		Paddr:  base,
		Filesz: size,
		Memsz:  size,
		Align:  alignment,
	}
	var file bytes.Buffer
	for _, part := range []any{header, load, text} {
		// A bytes.Buffer takes everything, and the sizes of these types are fixed.
		_ = binary.Write(&file, binary.LittleEndian, part)
	}
	return file.Bytes()
}

// Linux starts both programs with the number of arguments at the stack pointer,
// then the pointers to the arguments, a zero, the pointers to the variables of
// the environment, and a zero. System calls change none of the registers that
// are relied on below. A variable is written in one piece with its line break,
// which takes the place of the zero byte at its end.

func amd64Code(data, length uint32) []byte {
	operand := func(opcode byte, value uint32) []byte {
		return binary.LittleEndian.AppendUint32([]byte{opcode}, value)
	}
	message := data + uint32(len(indent))
	return slices.Concat(
		[]byte{0x48, 0x8b, 0x0c, 0x24},       //        mov  rcx, [rsp]           ; arguments
		[]byte{0x48, 0x8d, 0x5c, 0xcc, 0x10}, //        lea  rbx, [rsp+rcx*8+16]  ; environment
		operand(0xbf, 1),                     //        mov  edi, 1               ; standard output
		operand(0xb8, 1),                     //        mov  eax, 1               ; write
		operand(0xbe, message),               //        mov  esi, message
		operand(0xba, length),                //        mov  edx, length
		[]byte{0x0f, 0x05},                   //        syscall
		[]byte{0x48, 0x83, 0x3b, 0x00},       // next:  cmp  qword [rbx], 0
		[]byte{0x74, 0x33},                   //        je   exit
		operand(0xb8, 1),                     //        mov  eax, 1
		operand(0xbe, data),                  //        mov  esi, indent
		operand(0xba, uint32(len(indent))),   //        mov  edx, 2
		[]byte{0x0f, 0x05},                   //        syscall
		[]byte{0x48, 0x8b, 0x33},             //        mov  rsi, [rbx]           ; variable
		[]byte{0x31, 0xd2},                   //        xor  edx, edx             ; its length
		[]byte{0x80, 0x3c, 0x16, 0x00},       // count: cmp  byte [rsi+rdx], 0
		[]byte{0x74, 0x04},                   //        je   line
		[]byte{0xff, 0xc2},                   //        inc  edx
		[]byte{0xeb, 0xf6},                   //        jmp  count
		[]byte{0xc6, 0x04, 0x16, '\n'},       // line:  mov  byte [rsi+rdx], '\n'
		[]byte{0xff, 0xc2},                   //        inc  edx
		operand(0xb8, 1),                     //        mov  eax, 1
		[]byte{0x0f, 0x05},                   //        syscall
		[]byte{0x48, 0x83, 0xc3, 0x08},       //        add  rbx, 8
		[]byte{0xeb, 0xc7},                   //        jmp  next
		operand(0xb8, 60),                    // exit:  mov  eax, 60              ; exit
		[]byte{0x31, 0xff},                   //        xor  edi, edi             ; status 0
		[]byte{0x0f, 0x05},                   //        syscall
	)
}

func arm64Code(data, length uint32) []byte {
	// The operand of movz and movk is 16 bits wide, from bit 5 on. base has no
	// bits below 16, and offsets in the file none above.
	operand := func(instruction, value uint32) uint32 { return instruction | value&0xffff<<5 }
	message := data + uint32(len(indent))
	instructions := []uint32{
		0xf94003e9,                               //        ldr  x9, [sp]            // arguments
		0x8b296ff3,                               //        add  x19, sp, x9, lsl 3
		0x91004273,                               //        add  x19, x19, 16        // environment
		0xd2800808,                               //        mov  x8, 64              // write
		0xd2800020,                               //        mov  x0, 1               // standard output
		operand(0xd2a00001, base>>16),            //        movz x1, base, lsl 16
		operand(0xf2800001, message),             //        movk x1, message
		operand(0xd2800002, length),              //        movz x2, length
		0xd4000001,                               //        svc  0
		0xf8408674,                               // next:  ldr  x20, [x19], 8       // variable
		0xb4000254,                               //        cbz  x20, exit
		0xd2800020,                               //        mov  x0, 1
		operand(0xd2a00001, base>>16),            //        movz x1, base, lsl 16
		operand(0xf2800001, data),                //        movk x1, indent
		operand(0xd2800002, uint32(len(indent))), //        movz x2, 2
		0xd4000001,                               //        svc  0
		0xd2800020,                               //        mov  x0, 1
		0xaa1403e1,                               //        mov  x1, x20
		0xd2800002,                               //        mov  x2, 0               // its length
		0x38626829,                               // count: ldrb w9, [x1, x2]
		0x34000069,                               //        cbz  w9, line
		0x91000442,                               //        add  x2, x2, 1
		0x17fffffd,                               //        b    count
		0x52800149,                               // line:  mov  w9, '\n'
		0x38226829,                               //        strb w9, [x1, x2]
		0x91000442,                               //        add  x2, x2, 1
		0xd4000001,                               //        svc  0
		0x17ffffee,                               //        b    next
		0xd2800000,                               // exit:  mov  x0, 0               // status 0
		0xd2800ba8,                               //        mov  x8, 93              // exit
		0xd4000001,                               //        svc  0
	}
	var code []byte
	for _, i := range instructions {
		code = binary.LittleEndian.AppendUint32(code, i)
	}
	return code
}
