;; Calls http_fetch with what the intent says.
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
      (call $call (i32.const 16) (i32.const 10) (local.get 0) (local.get 1) (i32.const 1024))
      (i32.const 1024))
    (data (i32.const 16) "http_fetch"))
  {{run}}
)
