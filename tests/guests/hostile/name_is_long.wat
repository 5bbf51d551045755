;; Calls a gate whose name has a thousand letters.
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
      (memory.fill (i32.const 16) (i32.const 97) (i32.const 1000))
      (call $call (i32.const 16) (i32.const 1000) (i32.const 1100) (i32.const 2) (i32.const 2048))
      (i32.const 2048))
    (data (i32.const 1100) "[]"))
  {{run}}
)
