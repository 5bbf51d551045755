;; Casts cantrips that were never checked, as if they had been.
(component
  {{types}}
  {{gates}}
  {{libc}}
  {{call}}
  (core instance $gate (export "call" (func $call)))
  {{call_each}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "caller" "each" (func $each (param i32 i32 i32 i32) (result i32)))
    ;; Returns how many of them were answered: one digit.
    (func (export "run") (param i32 i32) (result i32)
      (i32.store8 (i32.const 1536)
        (i32.add (i32.const 48) (call $each (i32.const 16) (i32.const 12) (i32.const 2048) (i32.const 2324))))
      (i32.store8 (i32.const 1024) (i32.const 0))
      (i32.store (i32.const 1028) (i32.const 1536))
      (i32.store (i32.const 1032) (i32.const 1))
      (i32.const 1024))
    (data (i32.const 16) "cantrip.cast")
    (data (i32.const 2048) "[{\22$cantrip\22: {\22gates\22: [\22format_disk\22]}}, \22x\22]\0a[{\22$cantrip\22: {\22node\22: \22agents@elsewhere\22}}, \22x\22]\0a[{\22$cantrip\22: {\22llm\22: \22gpt\22}}, \22x\22]\0a[{\22$cantrip\22: {\22wards\22: {\22max_turn\22: 9}}}, \22x\22]\0a[{\22$cantrip\22: 7}, \22x\22]\0a[null, \22x\22]\0a[\2201m85xnw2jjqa6gh127g4xt5xh\22, \22x\22]\0a[{\22$cantrip\22: {}}, \22\22]\0a"))
  {{run_each}}
)
