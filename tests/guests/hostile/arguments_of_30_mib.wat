;; Calls a gate with thirty MiB of arguments.
(component
  {{types}}
  {{gates}}
  {{libc}}
  {{call}}
  (core instance $gate (export "call" (func $call)))
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "gate" "call" (func $call (param i32 i32 i32 i32 i32)))
    (func (export "run") (param i32 i32) (result i32)
      (drop (memory.grow (i32.const 500)))
      (memory.fill (i32.const 65536) (i32.const 32) (i32.const 31457280))
      (call $call (i32.const 16) (i32.const 4) (i32.const 65536) (i32.const 31457280) (i32.const 1024))
      (i32.const 1024))
    (data (i32.const 16) "echo"))
  {{run}}
)
