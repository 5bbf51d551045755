;; Casts a child that casts a child, and so on.
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
      (call $call (i32.const 16) (i32.const 11) (i32.const 64) (i32.const 19) (i32.const 1024))
      (i32.const 1024))
    (data (i32.const 16) "call_entity") (data (i32.const 64) "{\22intent\22: \22again\22}"))
  {{run}}
)
